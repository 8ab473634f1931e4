"""Links names of public objects in code style, as in `DejaVidClassifier`, to their page.

Markdown stays readable where Sphinx does not build it: no role is needed.
"""

from api_objects import find_object
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

WITHOUT_LINKS = (nodes.reference, nodes.title, nodes.literal_block)


class LinkNames(SphinxPostTransform):
    """Put a link around each literal that names a public object of another page."""

    default_priority = 400

    def run(self, **kwargs):
        """Replace the literals of one page."""
        objects = self.env.get_domain("py").objects
        kinds = {name: entry.objtype for name, entry in objects.items()}
        builder = self.app.builder
        for literal in list(self.document.findall(nodes.literal)):
            name = find_object(kinds, literal.astext())
            if name is None or has_ancestor(literal, WITHOUT_LINKS):
                continue
            entry = objects[name]
            if entry.docname != self.env.docname:
                link = make_refnode(
                    builder, self.env.docname, entry.docname, entry.node_id, [], name
                )
                literal.replace_self(link)
                link += literal


def has_ancestor(node, kinds):
    """Whether a node lies within one of some kinds."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def setup(app):
    """Register the transform."""
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
