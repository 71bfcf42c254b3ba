"""The page of `bark-semantic app`, a Gradio app in the browser."""

try:
    import gradio  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'The page needs gradio, whose import failed: {error}. Type: pip install "hf_bark_semantic[app]"'
    ) from error
