"""The convolutional space (arXiv:1806.09055, section 3.1): the supernet and the networks derived from it."""
