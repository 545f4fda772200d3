"""Report pages: one HTML file each, with everything inside, every text escaped."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from sparsight.data.artefact import write_text

PAGE = "index.html"


def write_page(folder: Path, template: str, images: dict[str, Path], *, name: str = PAGE, **values: Any) -> None:
    """Fill a template of this package.

    Args:
        folder: where to.
        template: its name.
        images: PNG files to embed, by the name that the template knows them under.
        name: of the page's file.
        values: everything else that the template needs.
    """
    environment = Environment(
        loader=PackageLoader("sparsight.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    embedded = {key: _address(path.read_bytes()) for key, path in images.items()}
    write_text(folder / name, environment.get_template(template).render(images=embedded, **values))


def embed_pixels(pixels: NDArray[np.uint8]) -> str:
    """Make a small picture, uint8 H x W x 3, an address that holds it whole, for a page to show."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    return _address(content.getvalue())


def _address(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
