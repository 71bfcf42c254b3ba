"""Stage 4. Write the folder of an encoder that is published, with its measured accuracy; see `--help`."""

from hf_bark_semantic.cli.package_encoder import main

if __name__ == "__main__":
    main()
