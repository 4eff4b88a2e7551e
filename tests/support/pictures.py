"""Pictures under test: what a panel shows, and that all texts can be read."""

import numpy as np

# Not to be read as mathematics: there is no symbol \\strange.
LONG = r"a_$\strange$_name with words/and_a_folder_with_no_end_of_words"


def check_texts(figure) -> int:
    """Assert that the texts lie apart and within the picture; return how many there are."""
    figure.draw_without_rendering()
    texts = [text for text in _texts(figure) if text.get_visible() and text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, texts[i]
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, texts[i]
        for j in range(i):
            assert not box.overlaps(boxes[j]), (texts[i], texts[j])
    return len(texts)


def _texts(figure):
    """All texts that are drawn: headline, legend, titles, labels of axes and of the ticks in view."""
    yield from figure.texts
    for legend in figure.legends:
        yield from legend.get_texts()
    for panel in figure.axes:
        yield panel.title
        for axis in (panel.xaxis, panel.yaxis) if panel.axison else ():
            low, high = sorted(axis.get_view_interval())
            yield axis.label
            yield from (tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)


def values_of(panel, number=0):
    """The values of an image in a panel; masked ones (between the tiles) as NaN."""
    values = panel.images[number].get_array()
    return values.filled(np.nan) if values.mask.any() else values.data


def heat_maps(figure):
    """The attention panels, in the order drawn: those with two images, the grey one below."""
    return [panel for panel in figure.axes if len(panel.images) == 2]
