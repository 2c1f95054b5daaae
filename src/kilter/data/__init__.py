"""Where examples come from: recordings found or fetched, digit strings composed, the user's own files read.

`assets` finds data and says where it came from; `audio` decodes; `fsdd` composes strings of spoken digits;
`espeak` speaks them; `asterisk` fetches recorded prompts, `prompts` spells them; `manifests` reads the user's own
speech. Nothing is imported here, so that `kilter doctor` and `kilter fetch` start without NumPy.
"""
