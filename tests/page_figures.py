"""The charts of a page of `study` or `runs --html` as pictures, light and dark, for what lies in weights. No test.

CONDCONV_MLX_BROWSER=/usr/bin/chromium python tests/page_figures.py runs/study-cifar10/study.html weights/study
"""

import math
import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH = 1000
MARGIN = 8


def main(page_file: Path, folder: Path) -> None:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=os.environ["CONDCONV_MLX_BROWSER"], args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            page.goto(page_file.resolve().as_uri())
            page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
            for section in page.locator("section[id]").all():
                box = section.locator(".charts").bounding_box()
                assert box
                clip = {name: math.floor(box[name]) - MARGIN for name in ("x", "y")}
                clip |= {name: math.ceil(box[name]) + 2 * MARGIN for name in ("width", "height")}
                path = folder / f"{section.get_attribute('id')}-{scheme}.png"
                page.screenshot(path=path, full_page=True, clip=clip)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
