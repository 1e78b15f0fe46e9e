"""The recurrent space (arXiv:1806.09055, section 3.2): text cells and the language model around them."""
