"""The contracts: a JSON Schema and golden examples per message, for producers and readers in any language.

`<message>.schema.json` says what a message must look like; `examples/<message>.<variant>.json` hold messages that are
right byte for byte. The decoders in `waypost.wire` are stricter where a schema cannot say it (an address that can
be called, a time that is not in the future); tests hold the two together.
"""
