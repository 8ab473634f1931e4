"""Checks a built site: `python docs/check_site.py build/docs build/external_links.txt`.

Every internal link must lead to a page, and to a place that exists on it. Nothing that a page needs
may come from another host. Links to other sites are listed in a file, not followed.
"""

import re
import sys
from collections import defaultdict
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ASSET = {"script": "src", "img": "src", "source": "src", "video": "src", "iframe": "src"}
LOADED = {"stylesheet", "icon", "preload", "modulepreload"}
IN_STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
IN_MARKDOWN = re.compile(r"\]\(([^)\s]+)\)")
EXTERNAL = {"http", "https"}


class Page(HTMLParser):
    """Collects the links, the assets and the places of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.assets, self.places = [], [], set()
        self.is_style = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note what one tag refers to, and its name."""
        values = dict(attrs)
        self.places |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag == "link" and LOADED & set((values.get("rel") or "").split()):
            self.assets.append(values["href"])
        elif values.get(ASSET.get(tag)):
            self.assets.append(values[ASSET[tag]])
        for candidate in (values.get("srcset") or "").split(","):
            self.assets += candidate.split()[:1]
        self.assets += assets_of_style(values.get("style") or "")
        self.is_style = tag == "style"

    def handle_data(self, data):
        """Note what a style in the page refers to."""
        if self.is_style:
            self.assets += assets_of_style(data)

    def handle_endtag(self, tag):
        """Note that a style ends."""
        self.is_style = False


def assets_of_style(text):
    """Return the addresses of what a style loads."""
    return ["".join(found) for found in IN_STYLE.findall(text)]


@cache
def read_page(path):
    """Return the contents of a page."""
    return Page(path.read_text(encoding="utf-8"))


def references(path):
    """Return the links and the assets of a file."""
    if path.suffix == ".html":
        page = read_page(path)
        return page.links, page.assets
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return [], assets_of_style(text)
    return IN_MARKDOWN.findall(text), []


def problem_of(link, path, site):
    """Return what is wrong with a link within the site, or None."""
    parts = urlsplit(link)
    target = path
    if parts.path:
        origin = site if parts.path.startswith("/") else path.parent
        target = (origin / unquote(parts.path).lstrip("/")).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "there is no such file"
    is_named = not parts.fragment or target.suffix != ".html"
    if not is_named and unquote(parts.fragment) not in read_page(target).places:
        return "the page has no such place"
    return None


def files_of(site):
    """Yield the files that refer to others. Themes leave templates among the static files."""
    for path in site.rglob("*"):
        folder = path.relative_to(site).parts[0]
        is_page = path.suffix == ".html" and folder != "_static"
        if is_page or path.suffix == ".css" or path == site / "llms.txt":
            yield path


def check(site):
    """Return problems of a site, the number of its internal links, and external addresses."""
    site = site.resolve()
    problems, n_internal, external = [], 0, defaultdict(set)
    for path in sorted(files_of(site)):
        name = str(path.relative_to(site))
        links, assets = references(path)
        for link in links + assets:
            scheme = urlsplit(link).scheme
            if scheme in EXTERNAL or link.startswith("//"):
                external[link].add(name)
                if link in assets:
                    problems.append(f"{name}: loads {link} from another host")
            elif not scheme:
                n_internal += 1
                if problem := problem_of(link, path, site):
                    problems.append(f"{name}: {link}: {problem}")
    return problems, n_internal, external


def main(site, listing):
    """Print problems and numbers, write the list of external links, and return the exit code."""
    problems, n_internal, external = check(Path(site))
    lines = [f"{link}\t{', '.join(sorted(pages))}\n" for link, pages in sorted(external.items())]
    Path(listing).write_text("".join(lines), encoding="utf-8")
    for problem in problems:
        print(problem)
    print(
        f"{n_internal} internal links, {len(problems)} problems; {len(external)} external links "
        f"are listed in {listing}"
    )
    return bool(problems) or n_internal == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
