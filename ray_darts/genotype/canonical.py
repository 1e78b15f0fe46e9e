"""Names genotypes by a digest."""

from __future__ import annotations

import hashlib

from ray_darts.genotype.genotype import Genotype


def genotype_digest(genotype: Genotype) -> str:
    """The first 12 hex digits of the SHA-256 of the genotype's JSON."""
    return hashlib.sha256(genotype.to_json().encode()).hexdigest()[:12]
