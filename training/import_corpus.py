"""A corpus of somebody else to one that training reads; `--help` says how."""

from hf_bark_semantic.cli.import_corpus import main

if __name__ == "__main__":
    main()
