"""Pictures of the page and of a report, in headless Chromium: docs/pictures/page.png and report.png.

    python docs/screenshots.py                      the page, with nano and its example cloned
    python docs/screenshots.py REPORT.html          a report of an evaluation

Needs the extra `test`, and Debian's `chromium` and `chromium-driver`.
"""

import argparse
import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PICTURES = Path(__file__).with_name("pictures")
SIZE = (1_100, 1_080)
MAX_COLOURS = 64  # of a picture, which then takes less than 200 kB
PATIENCE_S = 300


def open_browser(address: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={SIZE[0]},{SIZE[1]}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    browser.set_window_size(*SIZE)
    browser.get(address)
    return browser


def save_picture(browser: webdriver.Chrome, file: Path) -> None:
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    picture.quantize(MAX_COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


def picture_of_page() -> None:
    """The page after the example was cloned."""
    from hf_bark_semantic.app import page as app
    from hf_bark_semantic.app.shelf import Shelf
    from hf_bark_semantic.app.studio import Studio

    with tempfile.TemporaryDirectory() as folder:
        page = app.build_page(Studio("nano", device="cpu"), Shelf(Path(folder)))
        _, address, _ = app.launch(page, port=None)
        browser = open_browser(f"{address}?__theme=light")
        wait = WebDriverWait(browser, PATIENCE_S, ignored_exceptions=[WebDriverException])

        def find(selector: str):
            return wait.until(lambda _: browser.find_element(By.CSS_SELECTOR, selector))

        wait.until(lambda _: find("#example-reference").click() or True)
        wait.until(lambda _: "prompt" in find("#summary textarea").get_attribute("value"))
        wait.until(lambda _: find("#consent input").click() or True)
        wait.until(lambda _: find("#clone").click() or True)
        wait.until(
            lambda _: find("#saved").is_displayed() and "prompt" in find("#summary textarea").get_attribute("value")
        )
        wait.until(lambda _: find("#sound canvas, #sound audio, #sound .waveform-container"))
        browser.execute_script("scrollTo(0, 0); document.activeElement.blur()")
        save_picture(browser, PICTURES / "page.png")
        browser.quit()
        page.close()


def picture_of_report(report: Path) -> None:
    browser = open_browser(report.resolve().as_uri())
    save_picture(browser, PICTURES / "report.png")
    browser.quit()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, help="report.html of an evaluation; by default, the page")
    args = parser.parse_args(arguments)
    if args.report is None:
        picture_of_page()
    else:
        picture_of_report(args.report)


if __name__ == "__main__":
    main()
