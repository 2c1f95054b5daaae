"""Recipe of SeqPE: one model, trained short, that reads texts many times as long, and images that are larger.

A small Llama of bytes in the place of GPT-2, and a small ViT on handwritten digits in that of ViT-S on ImageNet; texts
are judged on WikiText as in the paper. Names looked up at growing distance stand for its question answering.
"""

from kilter.recipes.seqpe.images import SeqPEImages
from kilter.recipes.seqpe.texts import SeqPETexts

__all__ = ["RECIPE", "SeqPEImages", "SeqPETexts"]

RECIPE = {"texts": SeqPETexts, "images": SeqPEImages}
