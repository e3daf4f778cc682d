"""English function words: what a sentence is held together by, whatever it is about."""

_BY_CLASS = """
a an the this that these those some any no every each either neither both all half such another other others same own
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves one ones oneself
who whom whose which what whatever whichever whoever someone somebody something anyone anybody anything everyone everybody
everything nobody nothing none
about above across after against along among around as at before behind below beneath beside besides between beyond by
despite down during except for from in inside into like near of off on onto out outside over past per since through
throughout till to toward towards under underneath until unto up upon via with within without
and but or nor so yet if unless because although though while whereas whether than when whenever where wherever why how
however once therefore thus hence otherwise instead meanwhile moreover furthermore nevertheless nonetheless
am is are was were be been being have has had having do does did doing done will would shall should can could may might
must ought need dare let
not never ever always often sometimes usually seldom rarely again already still just only even also too very quite rather
pretty almost nearly enough much many more most little less least few fewer several lots
here there now then today soon later perhaps maybe indeed actually really simply basically certainly probably possibly
obviously clearly especially particularly generally mostly mainly merely yes well oh
first second last next away back together apart ahead forward else
i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll we're we've we'd we'll
they're they've they'd they'll that's that'd that'll there's there'd here's what's who's where's how's let's
isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't won't wouldn't can't cannot couldn't shouldn't
mustn't mightn't needn't
"""

FUNCTION_WORDS = tuple(dict.fromkeys(_BY_CLASS.split()))
"""In a fixed order, each once, in lower case with straight apostrophes."""
