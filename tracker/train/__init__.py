"""Fine-tune a Mask R-CNN on labelled pictures: extra `train`."""
