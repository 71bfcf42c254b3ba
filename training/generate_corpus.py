"""Bark speaks a labelled corpus; `--help` says how."""

from hf_bark_semantic.cli.generate_corpus import main

if __name__ == "__main__":
    main()
