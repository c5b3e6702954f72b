"""Bytes to model and back: one module per message, one codec per direction.

A decoder returns a valid value of the model or raises `DecodeError` with a reason; it never guesses, never
substitutes a default for something it could not read, and never raises anything else, whatever the bytes are.
Fields it does not know are ignored, so that an older reader understands a newer producer.
"""
