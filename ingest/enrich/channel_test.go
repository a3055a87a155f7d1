package enrich

import (
	"strings"
	"testing"

	"nowcast/ingest/dialect"
	"nowcast/internal/event"
)

// TestChannels derives source and channel from the query of the page's URL and the referrer.
func TestChannels(t *testing.T) {
	enricher := newEnricher(t)
	for _, c := range []struct{ query, referrer, source, channel string }{
		{"", "", "", "Direct"},
		{"", "https://www.google.de/", "Google", "Organic Search"},
		{"", "https://duckduckgo.com/", "DuckDuckGo", "Organic Search"},
		{"", "https://l.facebook.com/", "Facebook", "Organic Social"},
		{"", "https://news.ycombinator.com/item", "Hacker News", "Organic Social"},
		{"", "https://www.youtube.com/", "YouTube", "Organic Video"},
		{"", "https://www.amazon.co.uk/", "Amazon", "Organic Shopping"},
		{"", "https://chatgpt.com/", "ChatGPT", "AI Assistants"},
		{"", "https://mail.google.com/", "Gmail", "Email"},
		{"", "https://news.google.com/", "Google News", "Referral"},
		{"", "https://blog.example/", "blog.example", "Referral"},
		{"utm_source=chatgpt.com", "", "ChatGPT", "AI Assistants"},
		{"utm_source=google&utm_medium=cpc", "https://www.google.com/", "Google", "Paid Search"},
		{"utm_source=Google&utm_medium=CPC", "", "Google", "Paid Search"},
		{"utm_source=google&utm_medium=organic", "", "Google", "Organic Search"},
		{"utm_source=adwords", "", "Google", "Paid Search"},
		{"utm_source=facebook-ads", "", "Facebook", "Paid Social"},
		{"utm_source=bing&utm_campaign=cross-network", "", "Bing", "Cross-network"},
		{"utm_source=amazon&utm_medium=ppc", "", "Amazon", "Paid Shopping"},
		{"utm_source=partner&utm_medium=cpc&utm_campaign=spring-shop", "", "partner", "Paid Shopping"},
		{"utm_source=partner&utm_campaign=eshop", "", "partner", "Organic Shopping"},
		{"utm_source=partner&utm_campaign=workshop", "", "partner", "Referral"},
		{"utm_source=partner&utm_campaign=workshopping", "", "partner", "Organic Shopping"},
		{"utm_source=youtube&utm_medium=paid", "", "YouTube", "Paid Video"},
		{"utm_source=somewhere&utm_medium=video", "", "somewhere", "Organic Video"},
		{"utm_source=partner&utm_medium=cpm", "", "partner", "Display"},
		{"utm_source=partner&utm_medium=banner", "", "partner", "Display"},
		{"utm_source=partner&utm_medium=paid-anything", "", "partner", "Paid Other"},
		{"utm_source=partner&utm_medium=retargeting", "", "partner", "Paid Other"},
		{"utm_source=partner&utm_medium=social", "", "partner", "Organic Social"},
		{"utm_source=may&utm_medium=email", "", "may", "Email"},
		{"utm_source=my-newsletter", "", "my-newsletter", "Email"},
		{"utm_source=partner&utm_medium=affiliate", "", "partner", "Affiliates"},
		{"utm_source=show&utm_medium=audio", "", "show", "Audio"},
		{"utm_source=sms", "", "sms", "SMS"},
		{"utm_source=app&utm_medium=web-push", "", "app", "Mobile Push Notifications"},
		{"utm_medium=mobile", "", "", "Mobile Push Notifications"},
		{"utm_medium=link", "", "", "Referral"},
		{"utm_medium=unheard-of", "", "", "Direct"},
		{"ref=blog.example", "", "blog.example", "Referral"},
		{"gclid=1", "https://www.google.com/", "Google", "Paid Search"},
		{"gclid=1", "", "Google", "Paid Search"},
		{"gbraid=1", "https://www.youtube.com/", "YouTube", "Paid Video"},
		{"wbraid=1", "https://blog.example/", "blog.example", "Paid Search"},
		{"dclid=1", "https://blog.example/", "blog.example", "Display"},
		{"dclid=1", "", "Google", "Display"},
		{"msclkid=1", "https://www.bing.com/", "Bing", "Paid Search"},
		{"fbclid=1", "https://l.facebook.com/", "Facebook", "Organic Social"},
		{"fbclid=1", "", "Facebook", "Organic Social"},
		{"fbclid=1", "https://blog.example/", "blog.example", "Referral"},
		{"fbclid=1&utm_source=ig&utm_medium=paid", "", "Instagram", "Paid Social"},
		{"fbclid=1&gclid=1", "", "Google", "Paid Search"},
		{"ttclid=1", "", "TikTok", "Paid Social"},
		{"li_fat_id=1", "https://www.linkedin.com/", "LinkedIn", "Paid Social"},
		{"twclid=1", "https://t.co/x", "X", "Paid Social"},
		{"mc_eid=1", "", "Mailchimp", "Email"},
		{"gclid", "", "", "Direct"},
		{"gclid=1&utm_medium=email&utm_source=may", "", "may", "Paid Search"},
		{"GCLID=1", "", "", "Direct"},
	} {
		b := &dialect.Beacon{
			Kind: event.Pageview, Hostname: "example.com",
			Page: dialect.ParseLink("https://example.com/" +
				"?" + c.query), Referrer: dialect.ParseLink(c.referrer),
		}
		var e event.Event
		enricher.Fill(&e, b, &Facts{}, "example.com")
		if e.Source != c.source || e.Channel != c.channel {
			t.Errorf("%s from %s: %q by %s, want %q by %s",
				c.query, c.referrer, e.Source, e.Channel, c.source, c.channel)
		}
	}
}

// TestUntaggedChannel compares untaggedChannel with the rules of channel.
func TestUntaggedChannel(t *testing.T) {
	for _, kind := range []medium{"", mediumSearch, mediumSocial, mediumEmail, mediumVideo, mediumAI,
		mediumShopping} {
		for _, name := range []string{"", "somewhere"} {
			short := attribution{source: name, medium: kind}
			byRules := short
			byRules.utmCampaign = "x"
			if got, want := short.channel(), byRules.channel(); got != want {
				t.Errorf("%q of %q: %s, by the rules %s", name, kind, got, want)
			}
		}
	}
}

// TestSourceList checks the format of sources.tsv.
func TestSourceList(t *testing.T) {
	known := map[medium]bool{"": true, mediumSearch: true, mediumSocial: true, mediumEmail: true,
		mediumVideo: true, mediumAI: true, mediumShopping: true}
	for line := range strings.Lines(sourceList) {
		columns := strings.Split(strings.TrimSpace(line), "\t")
		if len(columns) != 3 {
			t.Errorf("%q has %d columns, want 3", line, len(columns))
		}
	}
	for word, from := range newSources(sourceList).byWord {
		if !known[from.medium] {
			t.Errorf("%s is of medium %q", word, from.medium)
		}
	}
}

// TestSpammerList looks up referring hosts and the domains above them.
func TestSpammerList(t *testing.T) {
	s := newSpammers(spammerList)
	if len(s) < 100 {
		t.Errorf("%d spammers", len(s))
	}
	for host, want := range map[string]bool{
		"semalt.com": true, "semalt.semalt.com": true, "notsemalt.com": false, "semalt.com.example": false,
		"": false,
	} {
		if got := s.has(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
}
