"""Stage 1. Real artefacts of Bark to one labelled corpus; `--help` says how."""

from hf_bark_semantic.cli.prepare_bark_artefacts import main

if __name__ == "__main__":
    main()
