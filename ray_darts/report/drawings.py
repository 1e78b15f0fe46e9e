"""Converts drawings from SVG to what a file's name says: `.svg`, `.png` (twice the size) or `.pdf`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray_darts.errors import ConfigError
from ray_darts.extras import needed

SUFFIXES = (".svg", ".png", ".pdf")
_PNG_SCALE = 2.0


def check_suffix(output: Path) -> None:
    """Raise ConfigError for a file name that says another form, or one whose package is missing."""
    suffix = output.suffix.lower()
    if suffix not in ("", *SUFFIXES):
        raise ConfigError(
            f"--output {output}: drawings are {', '.join(SUFFIXES)}, name a file that ends in one of them"
        )
    if suffix in SUFFIXES[1:]:
        _library(output)


def drawing(svg: str, output: Path) -> bytes:
    """The drawing in the form that the file's name says; SVG without one. Raises: ConfigError."""
    suffix = output.suffix.lower()
    if suffix == ".png":
        png: bytes = _library(output).svg_to_png(svg, scale=_PNG_SCALE)
        return png
    if suffix == ".pdf":
        pdf: bytes = _library(output).svg_to_pdf(svg)
        return pdf
    return svg.encode()


def _library(output: Path) -> Any:
    return needed("vl_convert", "report", f"--output {output}")
