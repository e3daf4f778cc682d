"""The two promises, and the ways in which they are usually broken."""

import json
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from spancheck import Chunk, Gap, gaps, mismatches, problems
from spancheck.__main__ import main

TEXT = "Publish, then retire.\n\nThe watermark moves last."


class Spans(unittest.TestCase):
    def test_exact_and_complete_chunks_have_no_problems(self):
        self.assertEqual(problems(TEXT, [Chunk(0, 21, TEXT[:21]), Chunk(23, 48, TEXT[23:])]), [])

    def test_white_space_between_chunks_is_no_gap(self):
        self.assertEqual(list(gaps("a\n\n\t b", [Chunk(0, 1, "a"), Chunk(5, 6, "b")])), [])

    def test_a_stripped_chunk_is_found_out(self):
        [found] = mismatches(TEXT, [Chunk(0, 22, TEXT[:22].strip())])
        self.assertEqual(found.at, 21)

    def test_a_span_beyond_the_end_is_a_mismatch(self):
        self.assertEqual(len(list(mismatches("short", [Chunk(0, 99, "short")]))), 1)

    def test_one_lost_character_is_a_gap(self):
        self.assertEqual(list(gaps("abc", [Chunk(0, 1, "a"), Chunk(2, 3, "c")])), [Gap(1, 2, "b")])

    def test_a_text_without_chunks_is_one_gap(self):
        self.assertEqual(list(gaps("  all of it ", [])), [Gap(2, 11, "all of it")])

    def test_overlapping_chunks_leave_no_gap(self):
        self.assertEqual(list(gaps("abcdef", [Chunk(0, 5, "abcde"), Chunk(1, 3, "bc"), Chunk(4, 6, "ef")])), [])


class CommandLine(unittest.TestCase):
    def run_on(self, text, chunks):
        with TemporaryDirectory() as folder, redirect_stdout(StringIO()) as output:
            (Path(folder) / "text").write_text(text, encoding="utf-8")
            (Path(folder) / "chunks").write_text("\n".join(map(json.dumps, chunks)), encoding="utf-8")
            status = main([f"{folder}/text", f"{folder}/chunks"])
        return status, output.getvalue()

    def test_all_is_well(self):
        self.assertEqual(self.run_on("abc", [{"start": 0, "end": 3, "text": "abc"}]), (0, "0 problems\n"))

    def test_problems_are_named_and_counted(self):
        status, output = self.run_on("abc", [{"start": 0, "end": 1, "text": "x"}])
        self.assertEqual(status, 1)
        self.assertIn("differs from the text at character 0", output)
        self.assertIn("2 problems", output)


if __name__ == "__main__":
    unittest.main()
