"""The site, built from a small checkout: links resolve, no other host is asked, it fits a phone."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import architecture
import environment
import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ("sphinx", "myst_nb", "autoapi", "pydata_sphinx_theme", "latex2mathml")
MISSING = [name for name in GENERATOR if importlib.util.find_spec(name) is None]
CHROMIUM = Path("/usr/bin/chromium")
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "markdown",
            "metadata": {},
            "id": "a",
            "source": "# 03 · How far?\n\n$q = s^2$",
        },
        {
            "cell_type": "code",
            "metadata": {},
            "id": "b",
            "source": "table",
            "execution_count": 1,
            "outputs": [
                {
                    "output_type": "execute_result",
                    "execution_count": 1,
                    "metadata": {},
                    "data": {"text/html": f"<table><tr>{'<td>wide_column</td>' * 30}</tr></table>"},
                }
            ],
        },
    ],
    "metadata": {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}
needs_generator = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of one published study, one notebook and one module."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("docs", "pyproject.toml", "CONTRIBUTING.md", "CHANGELOG.md", "edgeq_lib/analysis"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (root / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, root / name)
    shutil.copy2(ROOT / "edgeq_lib" / "__init__.py", root / "edgeq_lib")
    published = root / "figures" / "quickstart"
    published.mkdir(parents=True)
    for path in (ROOT / "figures" / "quickstart").iterdir():
        if path.name in ("results.json", "results.csv", "report.md") or path.suffix == ".png":
            shutil.copy2(path, published)
    (root / "notebooks").mkdir()
    (root / "notebooks" / "03_ptq.ipynb").write_text(json.dumps(NOTEBOOK))
    code = (
        "import sys; from pathlib import Path; from build_site import build;"
        "sys.exit(build(Path(sys.argv[1]), Path(sys.argv[1]) / 'build' / 'site'))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); {code}",
            root,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    return root / "build" / "site"


class Links(HTMLParser):
    """What a page points to, and what it loads."""

    def __init__(self, page):
        super().__init__()
        self.anchors, self.targets, self.loaded = set(), [], []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values.get("id"), values.get("name")}
        if tag == "a" and values.get("href"):
            self.targets.append(values["href"])
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") not in ("canonical", "search", "index"):
            self.loaded.append(values.get("href") or "")


@needs_generator
def test_internal_links_resolve_and_nothing_is_loaded_from_elsewhere(site):
    pages = {page: Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    assert site / "studies" / "quickstart" / "explore.html" in pages
    for page, links in pages.items():
        for address in links.loaded:
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"
        for address in [*links.targets, *links.loaded]:
            if re.match(r"[a-z]+:|//", address):
                continue
            path, anchor = urldefrag(address.split("?")[0] if "#" not in address else address)
            target = (page.parent / unquote(path.split("?")[0])).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{page.relative_to(site)} links to {address}"
            if anchor and target in pages and page.name != "explore.html":
                assert unquote(anchor) in pages[target].anchors, f"{page.name}: {address}"


@needs_generator
def test_styles_load_nothing_from_elsewhere(site):
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text()), style.name


@needs_generator
def test_pages_show_results_formulas_and_the_api(site):
    results = json.loads((ROOT / "figures" / "quickstart" / "results.json").read_text())
    table = (site / "studies" / "index.html").read_text()
    assert results["recommendation"]["variant"] in table
    assert "<math" in (site / "notebooks" / "03_ptq.html").read_text()
    api = (site / "api" / "edgeq_lib" / "analysis" / "pareto" / "index.html").read_text()
    assert "dominators" in api


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM.exists():
        pytest.skip("there is no /usr/bin/chromium")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@needs_generator
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_the_screen_without_console_errors(site, browser, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for name in (
        "index",
        "studies/index",
        "studies/quickstart/index",
        "notebooks/03_ptq",
        "architecture",
        "glossary",
        "api/edgeq_lib/analysis/decision/index",
    ):
        browser.get((site / f"{name}.html").as_uri())
        scroll = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(scroll) <= 0, f"{name} scrolls sideways at {width} pixels"
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not errors, f"{name}: {errors[0]['message']}"
        theme = browser.execute_script("return document.documentElement.dataset.theme")
        assert theme == scheme, f"{name} follows the system's colours"


def test_the_picture_is_drawn_from_the_contracts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    stored = (ROOT / "docs" / "architecture.svg").read_text()
    assert stored == architecture.draw(project), "run `make site` and commit docs/architecture.svg"


def test_environment_is_what_the_lock_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    content = environment.environment(project, (ROOT / "requirements.lock").read_text())
    assert (ROOT / "environment.yml").read_text() == content, "run `make lock`"
