"""A corpus in the layout of fairseq; `--help` says how."""

from hf_bark_semantic.cli.export_corpus import main

if __name__ == "__main__":
    main()
