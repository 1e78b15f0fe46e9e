"""Labelled images: sources, decoding, the split into halves, augmentation, streams."""
