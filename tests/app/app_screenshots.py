"""The screenshots of the README: each page of an app that runs, light and dark. No test.

condconv-mlx app --no-browser --port 8600 &
CONDCONV_MLX_BROWSER=/usr/bin/chromium python tests/app/app_screenshots.py http://127.0.0.1:8600 .github/screenshots
"""

import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

# By the name of the file: the address, and how wide the window is.
SHOTS = {
    "route": ("/?image=moose&expert=5", 1280),
    "kernels": ("/kernels?image=moose&other=frog", 1280),
    "what-if": ("/what-if?image=moose&what=1.uniform", 1280),
    "usage": ("/usage?section=map", 1280),
    "compare": ("/compare?image=frog", 1280),
    "compare-pictures": ("/compare?compare=pictures&other=truck", 1280),
    "route-narrow": ("/?image=moose", 390),
}
SETTLED = "() => document.querySelector('.js-plotly-plot') && !document.querySelector('[data-testid=stSkeleton]')"
SECONDS = 120


def main(address: str, folder: Path) -> None:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=os.environ["CONDCONV_MLX_BROWSER"], args=["--no-sandbox"])
        for name, (path, width) in SHOTS.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.set_default_timeout(SECONDS * 1000)
                page.goto(address + path)
                page.wait_for_function(SETTLED)
                # Fonts, and the charts below.
                page.wait_for_timeout(3000)
                height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
                page.set_viewport_size({"width": width, "height": height})
                page.wait_for_timeout(1000)
                page.screenshot(path=folder / f"{name}-{scheme}.png")
                page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
