"""Data exports as sources of a crawl; how each is read is tested with the exports themselves."""

import zipfile

from tests.doubles.crawling import reasons

SHARES = (
    "Date,ShareLink,ShareCommentary,SharedUrl,MediaUrl,Visibility\n"
    "2024-05-06 10:00:00,https://www.linkedin.com/feed/update/urn%3Ali%3Ashare%3A1,A thought on rain.,,,MEMBER_NETWORK\n"
)
COMMENTS = "Date,Link,Message\n2024-05-07 10:00:00,https://www.linkedin.com/feed/update/x,I agree with this.\n"
POST = (
    '<html><body><article class="h-entry"><header><h1 class="p-name">On gardens</h1></header>'
    '<section data-field="body" class="e-content"><p class="graf">Gardens need rain and patience.</p></section>'
    '<footer><a class="p-canonical" href="https://medium.com/@ada/on-gardens-0a1b2c3d4e5f">x</a>'
    '<time class="dt-published" datetime="2024-05-06T10:00:00.000Z">May</time></footer></article></body></html>'
)


def archive(path, files):
    with zipfile.ZipFile(path, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return str(path)


def test_linkedin_shares_and_comments_are_posts_of_their_author(world, tmp_path):
    world.crawl(archive(tmp_path / "linkedin.zip", {"Shares.csv": SHARES, "Comments.csv": COMMENTS}))
    kinds = {state.revision.text: (state.document.kind, state.document.platform) for state in world.live().values()}
    assert kinds == {"A thought on rain.": ("post", "linkedin"), "I agree with this.": ("post", "linkedin")}


def test_the_next_archive_with_more_rows_changes_nothing_of_the_earlier_ones(world, tmp_path):
    world.crawl(archive(tmp_path / "linkedin.zip", {"Shares.csv": SHARES, "Comments.csv": COMMENTS}))
    head, row = COMMENTS.split("\n", 1)
    later = f"{head}\n2024-06-01 10:00:00,https://www.linkedin.com/feed/update/y,A newer remark.\n{row}"
    report = world.crawl(archive(tmp_path / "newer.zip", {"Shares.csv": SHARES, "Comments.csv": later}))
    assert report.totals == {"stored": 1, "unchanged": 2}


def test_a_medium_post_lives_at_its_own_address_and_drafts_are_refused(world, tmp_path):
    files = {"posts/2024-05-06_On-gardens-0a1b2c3d4e5f.html": POST, "posts/draft_Later-0a1b2c3d4e50.html": POST}
    report = world.crawl(archive(tmp_path / "medium.zip", files))
    assert list(world.live()) == ["https://medium.com/@ada/on-gardens-0a1b2c3d4e5f"]
    assert list(reasons(report).values()) == ["draft"]


def test_what_an_archive_lacks_is_not_gone(world, tmp_path):
    path = archive(tmp_path / "linkedin.zip", {"Shares.csv": SHARES, "Comments.csv": COMMENTS})
    world.crawl(path)
    archive(tmp_path / "linkedin.zip", {"Shares.csv": SHARES})
    world.crawl(path)
    assert len(world.live()) == 2
