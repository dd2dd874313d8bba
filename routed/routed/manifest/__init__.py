"""Manifests: the YAML that operators write, to resources and back, with errors that name file, line and field.

`read` is the way in, `write` the way out; `document` reads YAML 1.2 scalars with their lines; `explain` says what a
schema refused in the words of manifests.
"""

from routed.manifest.read import Manifest, Text, load, locate, read, read_files

__all__ = ["Manifest", "Text", "load", "locate", "read", "read_files"]
