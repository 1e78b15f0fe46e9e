"""Genotypes as plain data: the shape of a space, discretising alphas, JSON and the reference's text form."""
