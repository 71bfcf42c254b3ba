"""An extension of griffe for docstrings in transformers' style.

[`name`] becomes a link to what it names, and the type of an argument, (`int`, *optional*), loses its markup.
"""

import re

import griffe

import hf_bark_semantic

TYPE = re.compile(r"^( *(?:[\w, ]*\w )?)\((.*?)\):(?=\s)", re.M)
NAME = re.compile(r"\[`~?([\w.]+)`\](?!\()")


class DocstringLinks(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            text = TYPE.sub(_plain_type, obj.docstring.value)
            obj.docstring.value = NAME.sub(_link, text)


def _plain_type(match: re.Match) -> str:
    return f"{match[1]}({re.sub('[`*]', '', match[2])}):"


def _link(match: re.Match) -> str:
    """A link to a public name or to a method of one; any other name as code."""
    name = match[1]
    public = name.split(".")[0] in hf_bark_semantic.__all__
    return f"[`{name}`][hf_bark_semantic.{name}]" if public else f"`{name}`"
