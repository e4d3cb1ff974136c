"""The verbs of the command line, by what they are about; `jaxexp.cli` gives them their words."""
