"""The results page's tables, made from the files in `loops/recipes/results`: `files` reads them, `accuracy` and `costs`
make the tables, `pages` puts them where a page marks a place.
"""
