"""The space of NAS-Bench-201 (arXiv:2001.00326, section 2): the supernet and the networks derived from it."""
