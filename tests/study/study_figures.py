"""The charts of a study's page as pictures, light and dark, for the account in weights/study. No test.

CONDCONV_MLX_BROWSER=/usr/bin/chromium python tests/study/study_figures.py runs/study-cifar10/study.html weights/study
"""

import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH = 1000


def main(page_file: Path, folder: Path) -> None:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=os.environ["CONDCONV_MLX_BROWSER"], args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            page.goto(page_file.resolve().as_uri())
            page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
            for section in page.locator("section[id]").all():
                section.locator(".charts").screenshot(path=folder / f"{section.get_attribute('id')}-{scheme}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
