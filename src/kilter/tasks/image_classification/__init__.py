"""Images: a small network learns to tell classes apart at one resolution, and is judged at larger ones too."""

from kilter.tasks.image_classification.task import ImageClassification

__all__ = ["ImageClassification"]
