"""kilter: say what "aligned" means, and train, decode or curate until your sequence model is in kilter.

Families are imported by name (`from kilter.speech import AlignWithPurpose`); `import kilter` itself costs nothing.
"""

__version__ = "0.1.0"
