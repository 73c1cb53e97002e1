"""What the HTML report does in a browser."""

import shutil

import pytest
from report_page import BLOCKS, HOSTILE

from edgeq_lib.report import explorer, render

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
def open_page(browser, page_results, page_pictures, tmp_path):
    """Opens the page at a width in pixels, light or dark; the console has to stay silent."""
    path = tmp_path / "report.html"
    path.write_text(render.page(page_results, BLOCKS, page_pictures))

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
