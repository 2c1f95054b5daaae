"""The command line, one command a file.

`kilter --help` reads a file's first line and its `PLACE`; `COMMAND` is a dataclass, its options, that is called, or the
file has `main(arguments)` and reads them itself. Nothing heavy is imported before a command runs.
"""

EXIT_CODES = """exit codes: 0 done · 1 something you can mend (the message says what) · 2 wrong usage · 3 a bug of
ours · 130 interrupted (run the same command again: it goes on where it stopped)"""
