"""The walk's page: what is in it, how it is kept, and in a browser: stops, hover, picks, slider, keyboard."""

import base64
import json
import re
import shutil
import zlib

import numpy as np
import pytest
import tensorflow as tf

from loops import recipes
from loops.run.restore import fresh_model, sizes_of
from tests.support.tiny import TINY
from tfcore import random
from tfcore.inspect.pages import walk_page
from tfcore.inspect.pages.walk_page import taken, thinning, walk_html
from tfcore.inspect.walk.walk import walk
from tfcore.layers.activation import Activation
from tfcore.layers.conv import Conv2D
from tfcore.layers.involution import Involution
from tfcore.module import Module

NAMES = sorted(TINY)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


def _walks(name: str, count: int = 1) -> list:
    # Half precision rounds each tensor: what is written out adds up to three digits alone.
    recipe = recipes.get(name).changed([tuple(text.split("=")) for text in ("precision=float32", *TINY[name])])
    sizes = sizes_of(recipe)
    model, rng = fresh_model(recipe, sizes), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(tf.constant(rng.uniform(-0.05, 0.05, variable.shape), variable.dtype))
    found = []
    for i in range(count):
        x = tf.constant(rng.uniform(0, 1, (1, *sizes.input_shape)), tf.float32)
        found.append((f"number {i}", walk(model, x, tf.constant([i]))))
    return found


def _data(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def _block(page: str) -> bytes:
    return zlib.decompress(base64.b64decode(re.search(r'id="numbers">(.*?)</script>', page)[1]))


def _tensor(page: str, number: int) -> np.ndarray:
    offset, count, size, factor = _data(page)["tensors"][number]
    planes = np.frombuffer(_block(page)[offset : offset + count * size], np.uint8).reshape(size, count)
    raw = np.ascontiguousarray(planes.T)
    return raw.view(np.float32 if size == 4 else np.float16).ravel().astype(np.float32) * np.float32(factor)


def test_the_page_holds_every_number():
    walks = _walks("inn_cifar10", 2)
    page = walk_html(walks, "a <walk>", class_names=[f"</script>{i}" for i in range(10)])
    data = _data(page)
    assert "a &lt;walk&gt;" in page and "<script>0" not in page and len(page) < 1_500_000
    assert [stop["name"] for stop in data["stops"]] == [stop.name for stop in walks[0][1].stops]
    for frame, (_, one) in enumerate(walks):
        for i, stop in enumerate(one.stops):
            kept = data["values"][frame][i]
            np.testing.assert_array_equal(_tensor(page, kept["value"]), stop.value.ravel(), stop.name)
            np.testing.assert_allclose(
                _tensor(page, kept["gradient"]),
                stop.gradient.ravel(),
                rtol=1e-3,
                atol=1e-4 * np.abs(stop.gradient).max(),
                err_msg=stop.name,
            )
    # Equal numbers are kept once: both walks have the same weights.
    hidden = next(i for i, stop in enumerate(data["stops"]) if stop["name"] == "hidden")
    assert data["values"][0][hidden]["parameters"][0][0] == data["values"][1][hidden]["parameters"][0][0]


def test_a_large_page_keeps_fewer_numbers_and_says_so(monkeypatch):
    walks = _walks("convnet_cifar10")
    whole = walk_html(walks, "whole")
    assert "thinned" not in _data(whole)["note"] and "five" not in _data(whole)["note"]
    monkeypatch.setattr(walk_page, "BYTES", 20_000)
    small = walk_html(walks, "small")
    assert len(_block(small)) < len(_block(whole))
    assert "values to five; tensors of more than" in _data(small)["note"]
    # Gradients shrink first: no arithmetic is written out of them.
    monkeypatch.setattr(walk_page, "BYTES", 0)
    monkeypatch.setattr(walk_page, "LADDER", [(False, 65_536, 512)])
    data = _data(walk_html(walks, "gradients"))
    assert data["stops"][0]["every"] == [1, 1, 1] and data["stops"][0]["steps"] == [4, 2, 1]
    assert "tensors of more than 65,536 numbers, gradients of more than 512, are thinned" in data["note"]


def test_thinning_keeps_widths_and_heads():
    assert thinning((4, 144, 144), "NTS", 65_536) == [1, 2, 1]
    assert thinning((4, 500, 500), "NTS", 65_536) == [1, 16, 1]
    assert thinning((8, 256, 256), "NTd", 65_536) == [1, 8, 1]
    assert thinning((32, 32, 3), "HWC", 65_536) == [1, 1, 1]
    assert thinning((100, 1000), "D", 1000) == [4, 32]
    array = np.arange(24).reshape(4, 6)
    np.testing.assert_array_equal(taken(array, [2, 3]), [[0, 3], [12, 15]])


def test_walks_of_two_models_are_refused():
    with pytest.raises(ValueError, match="of one model"):
        walk_html([*_walks("inn_cifar10"), *_walks("mlp_forda")], "two")
    with pytest.raises(ValueError, match="of one model"):
        walk_html([], "none")


# In a browser.


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    pytest.importorskip("selenium", reason="the page's browser tests need Selenium: pip install -e '.[browser]'")
    if not (CHROMIUM and DRIVER):
        pytest.skip("the page's browser tests need Chromium and chromedriver on the PATH")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.add_argument("--window-size=1400,1200")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def _open(driver, folder, walks, class_names=()):
    from selenium.webdriver.support.wait import WebDriverWait

    path = folder / "walk.html"
    path.write_text(walk_html(walks, "a walk", class_names=class_names), encoding="utf-8")
    driver.get("about:blank")
    driver.get(path.as_uri())
    WebDriverWait(driver, 30).until(lambda driver: driver.execute_script("return document.body?.dataset.ready"))


@pytest.mark.parametrize("name", NAMES)
def test_the_arithmetic_adds_up_to_the_number(driver, tmp_path, name):
    """Every stop at places drawn at random: what is written out sums to what the model computed."""
    walks = _walks(name)
    _open(driver, tmp_path, walks)
    assert {"dense", "softmax", "cross entropy"} <= _added_up(driver, walks[0][1])


def test_of_a_large_kernel_the_largest_products_are_kept(driver, tmp_path, monkeypatch):
    monkeypatch.setattr(walk_page, "WHOLE", 1000)
    ((_, found),) = walks = _walks("mlp_forda")
    _open(driver, tmp_path, walks)
    assert found["head"].parameters["kernel"].value.size > 1000
    assert "dense" in _added_up(driver, found, times=7)
    number = [stop.name for stop in found.stops].index("head")
    said = driver.execute_script("return explain(0, arguments[0], [3])", number)
    products = found[found["head"].rule.inputs[0]].value * found["head"].parameters["kernel"].value[:, 3]
    largest = np.argsort(-np.abs(products))[: walk_page.TOP]
    assert sorted(place[0] for place in said["lights"][0][1]) == sorted(largest) and "492 more" in said["text"]


class _Strides(Module):
    """What the recipes leave at their defaults: strides, groups, padding, a leaky slope."""

    def __init__(self, order: str):
        super().__init__()
        key = random.make_key(3)
        self.involution = Involution(in_channels=4, groups=2, stride=2, group_order=order, reduction_ratio=1, key=key)
        self.convolution = Conv2D(channels=4, filters=3, kernel_size=2, stride=2, padding="VALID", key=key)
        self.activation = Activation("leaky_relu", slope=0.3)
        self.even = Conv2D(channels=3, filters=2, kernel_size=2, stride=1, key=key)

    def __call__(self, x, *, training=False):
        output, _ = self.involution(x, training=training)
        y = self.even(self.activation(self.convolution(output)))
        return tf.reduce_mean(y, [1, 2])


@pytest.mark.parametrize("order", ["modulo", "block"])
def test_the_arithmetic_knows_strides_groups_and_padding(driver, tmp_path, order):
    x = random.uniform(random.make_key(5), [1, 11, 11, 4], -1.0, 1.0)
    found = walk(_Strides(order), x, tf.constant([1]))
    _open(driver, tmp_path, [("made up", found)])
    assert {"involution", "convolution", "leaky_relu"} <= _added_up(driver, found, times=30)


def _added_up(driver, found, times: int = 4) -> set[str]:
    """Compare the arithmetic of each stop with its numbers; return the kinds of rules that were."""
    checked, rng = set(), np.random.default_rng(2)
    for number, stop in enumerate(found.stops):
        every = thinning(stop.value.shape, stop.axes, walk_page.LIMIT)
        inputs = [found[source].value for source in (stop.rule.inputs if stop.rule else ())]
        for _ in range(times):
            index = [
                step * int(rng.integers(-(-size // step))) for size, step in zip(stop.value.shape, every, strict=True)
            ]
            script = "return explain(0, arguments[0], arguments[1])"
            said = driver.execute_script(script, number, index)
            if "total" not in said:
                thinned = any(value.size > walk_page.LIMIT for value in inputs)
                assert thinned or stop.rule is None, (stop.name, index, said)
                continue
            value = float(stop.value[tuple(index)])
            tolerance = 2e-5 * (1 + float(np.abs(stop.value).max()))
            assert abs(said["total"] - value) <= tolerance, (stop.name, index, said["text"], value)
            assert all(len(place) == len(found.stops[at].value.shape) for at, all_ in said["lights"] for place in all_)
            checked.add(stop.rule.kind)
    assert driver.get_log("browser") == []
    return checked


def test_stops_hover_and_picks_by_mouse_and_keyboard(driver, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    walks = _walks("inn_cifar10")
    _open(driver, tmp_path, walks, [f"kind {i}" for i in range(10)])

    def text(selector):
        return driver.find_element(By.CSS_SELECTOR, selector).text

    buttons = driver.find_elements(By.CSS_SELECTOR, "#path button")
    assert len(buttons) == len(walks[0][1].stops) and text("#name") == "input"
    buttons[0].click()
    ActionChains(driver).send_keys(*[Keys.ARROW_RIGHT] * 5).perform()
    assert text("#name") == "involutions/0" and driver.switch_to.active_element == buttons[5]
    assert not driver.find_element(By.ID, "frames").is_displayed()
    canvas = driver.find_element(By.CSS_SELECTOR, "#maps canvas.over")
    ActionChains(driver).move_to_element_with_offset(canvas, -100, -100).perform()
    assert re.match(r"\[H \d+, W \d+, C \d\] = .*; gradient ", text("#hover"))
    ActionChains(driver).click().perform()
    assert text("#arithmetic").count("·") >= 4 and "involutions/0: kernel" in text("#sources")
    assert len(driver.find_elements(By.CSS_SELECTOR, "#sources figure")) == 2
    driver.execute_script("arguments[0].focus()", canvas)
    before = text("#hover")
    ActionChains(driver).send_keys(Keys.ARROW_DOWN, Keys.ENTER).perform()
    assert text("#hover") != before and text("#name") == "involutions/0"
    index = re.match(r"\[H (\d+), W (\d+), C (\d)\]", text("#hover")).groups()
    assert text("#arithmetic").startswith(f"involutions/0[{', '.join(index)}]")
    assert driver.current_url.endswith(f"#involutions%2F0%5B{'%2C'.join(index)}%5D")
    driver.refresh()
    WebDriverWait(driver, 30).until(lambda driver: driver.execute_script("return document.body?.dataset.ready"))
    assert text("#arithmetic").startswith(f"involutions/0[{', '.join(index)}]")
    buttons = driver.find_elements(By.CSS_SELECTOR, "#path button")
    driver.find_element(By.CSS_SELECTOR, "#slice option[value='2']").click()
    assert driver.execute_script("return layout([32, 32, 3], 'HWC', [1, 1, 1], {slice: 2}).cell(4, 5)") == [5, 4, 2]
    ActionChains(driver).move_to_element_with_offset(buttons[0], 0, 0).perform()
    buttons[-1].click()
    assert text("#name") == "loss"
    driver.execute_script("choose(arguments[0])", len(buttons) - 2)
    rows = driver.find_elements(By.CSS_SELECTOR, "#named tr")
    best = int(np.argmax(walks[0][1]["probabilities"].value))
    assert len(rows) == 10 and rows[0].text.startswith(f"kind {best}")
    assert "Called by" not in text("#code") and "tfcore/ops/activations.py" in text("#code")
    assert driver.get_log("browser") == []


def test_the_slider_goes_over_walks_and_colours_differences(driver, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    walks = _walks("mlp_forda", 2)
    _open(driver, tmp_path, walks)
    slider = driver.find_element(By.ID, "frame")
    assert slider.is_displayed() and slider.get_attribute("max") == "1"
    losses = []
    for key in (None, Keys.ARROW_RIGHT):
        if key:
            slider.send_keys(key)
        losses.append(driver.find_element(By.ID, "said").text)
    assert losses[0].startswith(f"loss {walks[0][1].loss:.6g}") and losses[1].startswith(f"loss {walks[1][1].loss:.6g}")
    assert driver.find_element(By.ID, "about").text == "2 of 2: number 1"
    driver.find_element(By.ID, "difference").click()
    found = driver.execute_script("return [...drawn(0, 'value')].slice(0, 9)")
    inputs = [one["input"].value.ravel() for _, one in walks]
    np.testing.assert_allclose(found, (inputs[1] - inputs[0])[:9], rtol=1e-5)
    assert driver.get_log("browser") == []


def test_a_nan_is_named_and_the_page_goes_on(driver, tmp_path):
    from selenium.webdriver.common.by import By

    recipe = recipes.get("convnet_cifar10").changed([("filters", "2,3,5"), ("units", "7")])
    model = fresh_model(recipe, sizes_of(recipe))
    model.convolutions[1].bias.assign([np.nan, 0.0, np.inf])
    _open(driver, tmp_path, [("ill", walk(model, tf.ones([1, 32, 32, 3]), tf.constant([1])))])
    assert driver.find_element(By.ID, "bad").text == "The first NaN or infinity stands in convolutions/1."
    assert driver.find_element(By.CSS_SELECTOR, "#path button.bad").get_attribute("title") == "convolutions/1"
    for stop in range(driver.execute_script("return STOPS.length")):
        driver.execute_script("choose(arguments[0]); pick(STOPS[state.stop].shape.map(() => 0))", stop)
    assert driver.get_log("browser") == []


def test_dark_and_light_differ_and_a_phone_is_wide_enough(driver, tmp_path):
    _open(driver, tmp_path, _walks("vit_cifar100"))
    colours = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        colours.add(driver.execute_script("return colours().zero.join()"))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert colours == {"255,255,255", "22,27,34"}
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        count = driver.execute_script("return STOPS.length")
        for stop in range(count):
            wide = driver.execute_script("choose(arguments[0]); return document.documentElement.scrollWidth", stop)
            assert wide <= 390, driver.execute_script("return STOPS[arguments[0]].name", stop)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert driver.get_log("browser") == []


def test_it_loads_nothing(driver, tmp_path):
    _open(driver, tmp_path, _walks("inn_cifar10"))
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert driver.get_log("browser") == []  # nothing that the page's policy had to refuse
