"""Report pages: one HTML file each, with everything inside, every text escaped."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sparsight.data.artefact import write_text

PAGE = "index.html"


def write_page(folder: Path, template: str, images: dict[str, Path], **values: Any) -> None:
    """Fill a template of this package into `index.html`.

    Args:
        folder: where to.
        template: its name.
        images: PNG files to embed, by the name that the template knows them under.
        values: everything else that the template needs.
    """
    environment = Environment(
        loader=PackageLoader("sparsight.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    embedded = {name: _embedded(path) for name, path in images.items()}
    write_text(folder / PAGE, environment.get_template(template).render(images=embedded, **values))


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
