"""The operator's command line: `main` finds the verb, one module per verb does it. Imports are late on purpose."""
