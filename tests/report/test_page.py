"""The HTML report: what its file holds, and what it does in a browser."""

import copy
import io
import json
import re
import shutil
from html.parser import HTMLParser
from importlib import resources

import pytest
from PIL import Image

from edgeq_lib.plots.style import COLOURS, MARKERS
from edgeq_lib.report import explorer, interactive, markers, render
from edgeq_lib.report.pdf import pdf

HOSTILE = "a_</script><b>&'\"|name_that_is_rather_long_for_a_phone_and_goes_on"
CRITERIA = [{"name": "max_drop", "bound": 2.0}, {"name": "max_latency_ratio", "bound": 1.0}]
# name, kind, technique, top-1, bytes, latency ratio
ROWS = (
    ("float32", "variant", "baseline", 90.0, 4000, 1.0),
    ("int8", "variant", "ptq", 89.5, 1000, 0.5),
    ("int8_slow", "variant", "ptq", 89.0, 1100, 27.4),
    ("w4", "variant", "low_bit", 85.0, 600, 0.6),
    ("collapsed", "variant", "low_bit", 1.0, 590, 0.61),
    ("unmeasured", "variant", "qat", 89.9, None, None),
    (HOSTILE, "peer", "peer", 91.0, 900, 0.4),
)


def row_of(name, kind, technique, value, size, latency):
    drop = None if technique == "baseline" else 90.0 - value
    row = {"name": name, "kind": kind, "technique": technique, "value": value, "n": 200}
    row |= {"low": value - 2, "high": min(value + 2, 100.0), "agreement": None, "bytes": size}
    row |= {"drop": drop, "drop_low": drop and drop - 1, "drop_high": drop and drop + 1}
    row |= {"ratio": size and 4000 / size, "latency_ratio": latency, "weight_bits": 8.0}
    row |= {"latency_ratio_low": latency, "latency_ratio_high": latency, "activation_bits": None}
    row |= {"integer_only": technique != "baseline"}
    return row | {"why": {field: "it <broke>" for field, value in row.items() if value is None}}


@pytest.fixture
def results():
    return {
        "study": "tiny",
        "data": {"name": "tiny <set>", "form": "made here", "n_test": 200},
        "machine": {"cpu": "a <fast> one", "cores": 2},
        "baseline": "float32",
        "criteria": copy.deepcopy(CRITERIA),
        "recommendation": {"variant": "int8"},
        "variants": [row_of(*facts) for facts in ROWS],
    }


BLOCKS = [
    ("title", "tiny: </title><i>which"),
    ("lead", "Ship `int8`"),
    ("heading", "Results"),
    ("table", "The main table", ["Variant", "Top-1"], [["`int8`", "left out"]], 0),
    ("table", "Another | table", ["What", "Value"], [["a|b", "1 < 2"], ["c" * 60, "3"]], 1),
    ("figure", "drop", 'A "drop" of `int8`'),
    ("list", ["one", "**two**"]),
    ("facts", [("Machine", "a <fast> one")]),
]


@pytest.fixture
def pictures():
    file = io.BytesIO()
    Image.new("RGBA", (30, 20), "white").save(file, "PNG")
    return {"drop": file.getvalue()}


def page_data(text):
    return json.loads(re.search(r'id="report-data">(.*?)</script>', text, re.S)[1])


class Elements(HTMLParser):
    """The elements of a page and what they point at."""

    def __init__(self):
        super().__init__()
        self.tags, self.urls = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]


# --- the file ---
def test_the_page_is_one_file_that_asks_for_nothing(results, pictures):
    text = render.page(results, BLOCKS, pictures)
    reader = Elements()
    reader.feed(text)
    assert all(url.startswith(("#", "data:")) for url in reader.urls)
    assert reader.tags.count("script") == 3 and "link" not in reader.tags
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style and "url(" not in style
    assert reader.tags.count("img") == 1 and 'width="30" height="20"' in text
    assert len(text.encode()) < 1_000_000


def test_the_same_results_give_the_same_bytes(results, pictures):
    again = render.page(copy.deepcopy(results), list(BLOCKS), dict(pictures))
    assert again == render.page(results, BLOCKS, pictures)


def test_text_is_escaped_wherever_it_stands(results, pictures):
    text = render.page(results, BLOCKS, pictures)
    assert text.count("</title>") == 1 and "<i>" not in text and "<fast>" not in text
    assert "<broke>" not in text and "tiny &lt;set&gt;" in text and "</script><b>" not in text
    assert page_data(text)["rows"][-1]["name"] == HOSTILE


def test_the_explorer_stands_for_the_main_table_alone(results, pictures):
    text = render.page(results, BLOCKS, pictures)
    assert "left out" not in text and "Another | table" in text
    assert text.count('<a href="#explorer">') == 2  # of the contents, and in place of the table
    assert text.count('<tr class="chosen">') == 1  # of the other table
    assert '<tr data-name="int8" class="chosen">' in text


@pytest.mark.parametrize("change", [
    {"criteria": []},
    {"recommendation": {"variant": None}},
    {"machine": {}},
    {"variants": [row_of("float32", "variant", "baseline", 90.0, None, None)]},
    {"variants": [row_of("x", "variant", "new", 90.0, 10, 1.0) | {"low": None, "high": None}]},
])  # fmt: skip
def test_what_is_missing_does_not_break_the_page(results, change):
    text = render.page({**results, **change}, BLOCKS[:2], {})
    assert "None" not in text.split("<script")[0]
    assert ('id="meets"' in text) == bool(change.get("criteria", CRITERIA))


def test_nulls_say_why_in_table_and_hover(results):
    row = explorer.explorer(results)["rows"][5]
    size = next(cell for cell in row["cells"] if cell["key"] == "bytes")
    assert (size["text"], size["why"], row["sort"]["bytes"]) == ("–", "it <broke>", None)
    assert ("File", "– (it <broke>)") in row["hover"]


def test_the_hover_holds_what_an_expert_asks_for(results):
    hover = dict(explorer.explorer(results)["rows"][1]["hover"])
    assert hover["Paired drop"] == "0.50 [−0.50, 1.50] points"
    assert hover["File"] == "1,000 bytes, 4.00 × smaller"
    assert hover["Latency"] == "0.50 [0.50, 0.50] × float32"
    assert (
        hover["Machine"] == "a <fast> one (instruction sets not recorded), 2 cores"
        and hover["Bits w / a"] == "8 / –"
    )


def test_criteria_are_judged_for_our_files_alone(results):
    rows = {row["name"]: row for row in explorer.explorer(results)["rows"]}
    assert [name for name, row in rows.items() if row["meets"]] == ["float32", "int8"]
    assert rows[HOSTILE]["cells"][-1]["text"] == "–" and rows[HOSTILE]["sort"]["standing"] is None


def test_the_front_is_of_our_files_and_drawn_as_steps(results):
    rows = [row for row in results["variants"] if row["bytes"] is not None]
    assert [row["name"] for row in interactive.front(rows, "bytes")] == [
        "collapsed", "w4", "int8", "float32"]  # fmt: skip
    assert [row["name"] for row in interactive.front(rows, "latency_ratio")] == ["int8", "float32"]
    data = {entry["name"]: entry["values"] for entry in interactive.charts(results)["bytes"]["data"]
            if "values" in entry}  # fmt: skip
    corners = [(corner["x"], corner["y"]) for corner in data["front"]]
    assert corners[:4] == [(600, 85.0), (1000, 85.0), (1000, 89.5), (4000, 89.5)]
    points = {point["name"]: point for point in data["rows"]}
    assert points["collapsed"]["y"] is None and not points["int8_slow"]["filled"]
    labels = {name for name, point in points.items() if point["label"]}
    assert labels == {"float32", "int8", "w4"}


@pytest.mark.parametrize("technique", [*COLOURS, "a_new_one"])
def test_markers_stand_out_on_light_and_dark(technique):
    for page, ratio in explorer.PAGES.values():
        shade = markers.readable(COLOURS.get(technique, "#666666"), page, ratio)
        assert markers.contrast(shade, page) >= 3


def test_text_has_the_contrast_of_wcag_aa():
    style = (resources.files("edgeq_lib.report") / "templates" / "style.css").read_text()
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", part))
              for part in re.findall(r":root \{[^}]*\}", style)]  # fmt: skip
    assert len(themes) == 2
    for (page, _), theme in zip(explorer.PAGES.values(), themes, strict=True):
        assert theme["page"] == page
        for ink in ("ink", "soft", "mark", "ring"):
            for back in ("page", "tint", "hover", "raised"):
                assert markers.contrast(theme[ink], theme[back]) >= 4.5, (ink, back)


def test_every_marker_is_a_path_within_its_square():
    for marker in MARKERS.values():
        path = markers.svg_path(marker)
        assert path.startswith("M") and "nan" not in path
        assert max(abs(float(number)) for number in re.findall(r"-?[\d.]+", path)) <= 1.4


def test_markdown_and_pdf_take_the_same_blocks(pictures):
    text = render.markdown(BLOCKS)
    assert "| a\\|b | 1 < 2 |" in text and '![A "drop" of `int8`](drop.png)' in text
    assert "**Ship `int8`**" in text and text.endswith("\n")
    assert pdf(BLOCKS, pictures).startswith(b"%PDF") and pdf(BLOCKS, pictures) == pdf(
        BLOCKS, pictures
    )


# --- the browser ---
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --hide-scrollbars"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium or chromedriver is not installed (apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def open_page(browser, results, pictures, tmp_path):
    """Opens the page at a width in pixels, light or dark; the console has to stay silent."""
    path = tmp_path / "report.html"
    path.write_text(render.page(results, BLOCKS, pictures))

    def opener(width=1280, theme="light", scripts=True):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        media = [{"name": "prefers-color-scheme", "value": theme}]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        browser.get(path.as_uri())
        if scripts:
            wait(browser, "return document.documentElement.dataset.ready === 'true'")
        return browser

    yield opener
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.get_log("browser") == []


def wait(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10, 0.05).until(lambda driver: driver.execute_script(script))


def one(browser, selector):
    return browser.find_element("css selector", selector)


def names(browser):
    rows = "document.querySelectorAll('#files tbody tr:not([hidden])')"
    return browser.execute_script(f"return [...{rows}].map(row => row.dataset.name)")


def drawn(browser, field="bytes"):
    """How many points a chart shows."""
    return browser.execute_script(
        "return document.querySelectorAll(arguments[0]).length",
        f".chart[data-field={field}] .points path",
    )


def shown_tips(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('.tip:not([hidden])')].map(tip => tip.innerText)"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_opens_without_a_word_and_fits_the_screen(open_page, width, theme):
    browser = open_page(width, theme)
    inside = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser.execute_script(inside)
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    page = explorer.PAGES[theme][0]
    assert back == "rgb({}, {}, {})".format(*bytes.fromhex(page[1:]))
    assert drawn(browser) == 6 and len(names(browser)) == 7


def test_it_sorts_by_number_with_nulls_last(open_page):
    browser = open_page()
    one(browser, "th[data-key=bytes] button").click()
    assert names(browser)[:2] == ["collapsed", "w4"] and names(browser)[-1] == "unmeasured"
    one(browser, "th[data-key=bytes] button").click()
    assert names(browser)[0] == "float32" and names(browser)[-1] == "unmeasured"
    assert one(browser, "th[data-key=bytes]").get_attribute("aria-sort") == "descending"
    one(browser, "th[data-key=value] button").click()
    assert (
        names(browser)[0] == HOSTILE
        and len(browser.find_elements("css selector", "[aria-sort]")) == 1
    )


def test_filters_leave_the_same_rows_and_points(open_page):
    browser = open_page()
    one(browser, "#search").send_keys("INT8")
    assert names(browser) == ["int8", "int8_slow"] and drawn(browser) == 2
    one(browser, "#meets").click()
    assert names(browser) == ["int8"] and drawn(browser, "latency_ratio") == 1
    assert one(browser, "#left").text == "1 of 7 files"
    one(browser, "#reset").click()
    assert len(names(browser)) == 7 and drawn(browser) == 6
    one(browser, ".chip[data-technique=low_bit]").click()
    assert names(browser) == ["w4", "collapsed"] and drawn(browser) == 2
    one(browser, "#search").send_keys("nothing like it")
    assert names(browser) == [] and one(browser, ".nothing").is_displayed()


def test_hover_shows_the_point_and_its_row_and_a_click_pins(open_page):
    from selenium.webdriver import ActionChains

    browser = open_page()
    point = browser.find_elements("css selector", ".chart[data-field=bytes] .points path")[1]
    ActionChains(browser).move_to_element(point).perform()
    (tip,) = shown_tips(browser)
    assert tip.startswith("int8\n") and "0.50 [−0.50, 1.50] points" in tip
    assert one(browser, "tr.active").get_attribute("data-name") == "int8"
    ActionChains(browser).click().move_to_element(one(browser, "h1")).perform()
    assert shown_tips(browser) == [tip]
    assert one(browser, "tr.pinned").get_attribute("data-name") == "int8"
    ActionChains(browser).move_to_element(one(browser, "tr[data-name=w4] th")).perform()
    active = "return [...document.querySelectorAll('tr.active')].map(row => row.dataset.name)"
    assert browser.execute_script(active) == ["w4"] and shown_tips(browser) == []


def test_the_keyboard_reaches_points_and_rows(open_page):
    from selenium.webdriver.common.keys import Keys

    browser = open_page(400)
    chart = one(browser, ".chart[data-field=latency_ratio]")
    chart.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert shown_tips(browser)[0].startswith("int8\n")
    chart.send_keys(Keys.ENTER)
    assert one(browser, "tr.pinned").get_attribute("data-name") == "int8"
    chart.send_keys(Keys.ESCAPE)
    assert not browser.find_elements("css selector", "tr.pinned")
    one(browser, "tr[data-name=float32]").send_keys(Keys.ARROW_DOWN)
    assert browser.execute_script("return document.activeElement.dataset.name") == "int8"


def test_print_holds_every_file_whatever_the_filter_leaves(open_page):
    browser = open_page()
    one(browser, "#search").send_keys("int8")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(names(browser)) == 7 and drawn(browser) == 6
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert names(browser) == ["int8", "int8_slow"] and drawn(browser) == 2


def test_without_scripts_the_table_and_the_pictures_are_there(open_page):
    browser = open_page(400, scripts=False)
    assert len(browser.find_elements("css selector", "#files tbody tr")) == 7
    assert not one(browser, ".charts").is_displayed() and one(browser, "figure img").is_displayed()
