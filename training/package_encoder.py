"""Stage 4. A trained encoder and its measured accuracy to the folder that is published; `--help` says how."""

from hf_bark_semantic.cli.package_encoder import main

if __name__ == "__main__":
    main()
