"""The words around a pair: what the reranker reads and what it is trained to answer.

A template is data: a name of `builtin.yaml`, or a YAML file of the user's with the same fields. `tasks` fills it inside
tf.data, the reranker here; both split it into the same parts, put these into the same `frame` and cut the passage by
`encode_input`, and tests hold both to the same ids. Only the passage is ever shortened: the question and the words
after the passage always stay.
"""

from exaranker.templates.encoding import cut_passage, encode_input, explanation_prefix, frame, label_ids, parts
from exaranker.templates.files import EXARANKER, TEMPLATES, build_template, read_template, template_named
from exaranker.templates.template import APART, DECODER_ONLY, ENCODER_DECODER, TEMPLATE_FAMILIES, Template, pieces

__all__ = [
    "APART",
    "DECODER_ONLY",
    "ENCODER_DECODER",
    "EXARANKER",
    "TEMPLATES",
    "TEMPLATE_FAMILIES",
    "Template",
    "build_template",
    "cut_passage",
    "encode_input",
    "explanation_prefix",
    "frame",
    "label_ids",
    "parts",
    "pieces",
    "read_template",
    "template_named",
]
