"""Writes formulas as MathML, which browsers display without scripts, fonts or a network."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError


def visit_inline(self, node):
    """Write a formula within a line."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(self, node):
    """Write a formula on a line of its own, which scrolls where the page is narrow."""
    formula = tex2mathml(node.astext(), as_block=True)
    self.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app):
    """Register the renderer under the name that html_math_renderer takes.

    The converter is internal to docutils, so one formula is compared first.
    """
    if "<mfrac><mi>a</mi><mi>b</mi></mfrac>" not in "".join(tex2mathml(r"\frac{a}{b}").split()):
        raise ExtensionError("docutils writes formulas in another way now: adapt mathml.py")
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
