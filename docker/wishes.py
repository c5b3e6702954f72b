"""Print what pyproject.toml asks for, with the given extras: so that images can install it before the sources."""

import sys

import tomllib

with open("pyproject.toml", "rb") as opened:
    project = tomllib.load(opened)["project"]
extras = [project["optional-dependencies"][extra] for extra in sys.argv[1:]]
print(*project["dependencies"], *(wish for wishes in extras for wish in wishes), sep="\n")
