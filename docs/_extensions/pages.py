"""Lets links of Markdown, which lead somewhere on GitHub too, do what the site needs.

* Links of an index page to pages of its folder, and to index pages of folders in it, are its table
  of contents. No page has to repeat them.
* A link to an example's source (`gallery/plot_x.py`) leads to the page that is built from it.
* A link to a file outside of the documentation leads to the repository.
"""

from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform


class LinkFiles(SphinxTransform):
    """Replace links to files by links to pages of the gallery or of the repository."""

    default_priority = 410

    def apply(self, **kwargs):
        """Replace the links of one page."""
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("reftarget") == "gallery/GALLERY_HEADER":
                link["reftarget"] = "auto_examples/index"
            elif link.get("refdomain") == "doc" and Path(link["reftarget"]).is_absolute():
                self.replace(link, Path(f"{link['reftarget']}.md"))
        folder = Path(self.app.srcdir, self.env.docname).parent
        for link in list(self.document.findall(addnodes.download_reference)):
            self.replace(link, (folder / link["reftarget"]).resolve())

    def replace(self, link, path):
        """Replace a link to a file, if it is in the gallery or outside of the documentation."""
        docs = Path(self.app.srcdir)
        repository = self.config.html_context.get("repository")
        if path.parent == docs / "gallery":
            new = link_to_page(f"auto_examples/{path.stem}", self.env.docname)
        elif repository and not path.is_relative_to(docs):
            address = f"{repository}/blob/main/{path.relative_to(docs.parent).as_posix()}"
            new = nodes.reference(refuri=address, internal=False)
        else:
            return
        link.replace_self(new)
        new += [child.deepcopy() for child in link.children]


def link_to_page(docname, origin):
    return addnodes.pending_xref(
        refdomain="std",
        reftype="doc",
        reftarget=f"/{docname}",
        refexplicit=True,
        refwarn=True,
        refdoc=origin,
    )


class ListPages(SphinxTransform):
    """Add the table of contents to an index page that has none."""

    default_priority = 420  # after LinkFiles

    def apply(self, **kwargs):
        """Add the pages to which one index page links."""
        page = PurePosixPath(self.env.docname)
        if page.name != "index" or any(self.document.findall(addnodes.toctree)):
            return
        targets = map(docname_of, self.document.findall(addnodes.pending_xref))
        pages = list(dict.fromkeys(t for t in targets if t and is_child(PurePosixPath(t), page)))
        sections = [node for node in self.document.children if isinstance(node, nodes.section)]
        if pages and sections:
            wrapper = nodes.compound(classes=["toctree-wrapper"])
            wrapper += addnodes.toctree(
                parent=self.env.docname,
                entries=[(None, name) for name in pages],
                includefiles=pages,
                maxdepth=-1,
                caption=None,
                glob=False,
                hidden=True,
                includehidden=False,
                numbered=0,
                titlesonly=False,
            )
            sections[0] += wrapper


def docname_of(link):
    """Return the page to which a link of Markdown, or a role, leads; or None."""
    if link.get("refdomain") == "doc" or link.get("reftype") == "doc":
        return link["reftarget"].removeprefix("/")
    return None


def is_child(page, index):
    """Whether a page belongs to the folder of an index page."""
    if page.name == "index":
        return page.parent.parent == index.parent and page != index
    return page.parent == index.parent


def setup(app):
    """Register the transforms."""
    app.add_transform(LinkFiles)
    app.add_transform(ListPages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
