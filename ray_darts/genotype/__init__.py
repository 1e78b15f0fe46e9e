"""Genotypes as plain data: the shape of a space, decoding mixing probabilities, JSON and the reference's text form."""
