package ingest

import "strings"

// medium is what kind of place a source is, by the second column of sources.tsv; "" for a website like any other.
type medium string

const (
	mediumSearch   medium = "search"
	mediumSocial   medium = "social"
	mediumEmail    medium = "email"
	mediumVideo    medium = "video"
	mediumAI       medium = "ai"
	mediumShopping medium = "shopping"
	mediumDisplay  medium = "display" // only of clicks
)

// The channels, by the names of Google Analytics 4 and Plausible.
const (
	channelDirect          = "Direct"
	channelCrossNetwork    = "Cross-network"
	channelPaidShopping    = "Paid Shopping"
	channelPaidSearch      = "Paid Search"
	channelPaidSocial      = "Paid Social"
	channelPaidVideo       = "Paid Video"
	channelDisplay         = "Display"
	channelPaidOther       = "Paid Other"
	channelOrganicShopping = "Organic Shopping"
	channelOrganicSocial   = "Organic Social"
	channelOrganicVideo    = "Organic Video"
	channelAI              = "AI Assistants"
	channelOrganicSearch   = "Organic Search"
	channelEmail           = "Email"
	channelAffiliates      = "Affiliates"
	channelAudio           = "Audio"
	channelSMS             = "SMS"
	channelPush            = "Mobile Push Notifications"
	channelReferral        = "Referral"
)

// click is what the id that a network adds to a link says: that the visitor clicked there, and mostly that the link was an ad. The id
// itself names one click of one person, and is never kept.
type click struct {
	source string // where the referrer doesn't say it
	medium medium
	paid   bool
}

// clickOf knows the parameters that hold such ids. Facebook and Instagram also add theirs to what people post.
func clickOf(parameter string) (click, bool) {
	switch parameter {
	case "gclid", "gbraid", "wbraid":
		return click{"Google", mediumSearch, true}, true
	case "dclid":
		return click{"Google", mediumDisplay, true}, true // Display & Video 360
	case "msclkid":
		return click{"Bing", mediumSearch, true}, true
	case "yclid":
		return click{"Yandex", mediumSearch, true}, true
	case "fbclid":
		return click{"Facebook", mediumSocial, false}, true
	case "igsh", "igshid":
		return click{"Instagram", mediumSocial, false}, true
	case "ttclid":
		return click{"TikTok", mediumSocial, true}, true
	case "twclid":
		return click{"X", mediumSocial, true}, true
	case "li_fat_id":
		return click{"LinkedIn", mediumSocial, true}, true
	case "rdt_cid":
		return click{"Reddit", mediumSocial, true}, true
	case "epik":
		return click{"Pinterest", mediumSocial, true}, true
	case "ScCid", "sccid":
		return click{"Snapchat", mediumSocial, true}, true
	case "mc_cid", "mc_eid":
		return click{"Mailchimp", mediumEmail, false}, true
	}
	return click{}, false
}

// acquisition is all that a channel follows from.
type acquisition struct {
	source                            string // its name, "" for none
	medium                            medium // of the source
	utmSource, utmMedium, utmCampaign string
	click                             click
}

// channel is how a visitor was won: the first line that holds. The rules are those of Google Analytics 4's default channel group
// (support.google.com/analytics/answer/9756891) in Plausible's order, with Plausible's additions: AI Assistants, a utm_source such
// as facebook-ads as a sign of an ad, and no Unassigned. What we add: the click id of any ad network makes a visit a paid one, as
// only Google can do for its own in theirs.
func (a *acquisition) channel() string {
	if a.utmSource == "" && a.utmMedium == "" && a.utmCampaign == "" && a.click == (click{}) {
		return a.untagged()
	}
	tag, campaign, source := strings.ToLower(a.utmMedium), strings.ToLower(a.utmCampaign), strings.ToLower(a.utmSource)
	kind := a.medium
	if kind == "" && a.click.paid {
		kind = a.click.medium
	}
	paid := paidMedium(tag) || a.click.paid
	known := paid || paidSource(source)
	shopping := kind == mediumShopping || shoppingCampaign(campaign)
	for _, rule := range [...]struct {
		holds   bool
		channel string
	}{
		{strings.Contains(campaign, "cross-network"), channelCrossNetwork},
		{shopping && paid, channelPaidShopping},
		{kind == mediumSearch && known, channelPaidSearch},
		{kind == mediumSocial && known, channelPaidSocial},
		{kind == mediumVideo && known, channelPaidVideo},
		{kind == mediumDisplay || among(tag, "display", "banner", "expandable", "interstitial", "cpm"), channelDisplay},
		{paid, channelPaidOther},
		{shopping, channelOrganicShopping},
		{kind == mediumSocial || among(tag, "social", "social-network", "social-media", "sm", "social network", "social media"), channelOrganicSocial},
		{kind == mediumVideo || strings.Contains(tag, "video"), channelOrganicVideo},
		{kind == mediumAI, channelAI},
		{kind == mediumSearch || tag == "organic", channelOrganicSearch},
		{kind == mediumEmail || mail(source) || mail(tag), channelEmail},
		{among(tag, "affiliate", "affiliates"), channelAffiliates},
		{tag == "audio", channelAudio},
		{source == "sms" || tag == "sms", channelSMS},
		{strings.HasSuffix(tag, "push") || strings.Contains(tag, "mobile") || strings.Contains(tag, "notification") || source == "firebase", channelPush},
		{a.source != "" || among(tag, "referral", "app", "link"), channelReferral},
	} {
		if rule.holds {
			return rule.channel
		}
	}
	return channelDirect
}

// untagged is what the rules come to for a link without tags, as nearly all are.
func (a *acquisition) untagged() string {
	switch a.medium {
	case mediumSearch:
		return channelOrganicSearch
	case mediumSocial:
		return channelOrganicSocial
	case mediumEmail:
		return channelEmail
	case mediumVideo:
		return channelOrganicVideo
	case mediumAI:
		return channelAI
	case mediumShopping:
		return channelOrganicShopping
	}
	if a.source != "" {
		return channelReferral
	}
	return channelDirect
}

func among(s string, list ...string) bool {
	for _, x := range list {
		if s == x {
			return true
		}
	}
	return false
}

// paidMedium is GA4's ^(.*cp.*|ppc|retargeting|paid.*)$.
func paidMedium(tag string) bool {
	return strings.Contains(tag, "cp") || tag == "ppc" || tag == "retargeting" || strings.HasPrefix(tag, "paid")
}

// paidSource knows names of ad accounts: adwords, facebook-ads, yt_ad.
func paidSource(source string) bool {
	return source == "adwords" || strings.HasSuffix(source, "ads") || strings.HasSuffix(source, "-ad") || strings.HasSuffix(source, "_ad")
}

// shoppingCampaign is GA4's ^(.*(([^a-df-z]|^)shop|shopping).*)$: eshop and spring-shop, but no workshop.
func shoppingCampaign(campaign string) bool {
	for rest := campaign; ; {
		before, after, ok := strings.Cut(rest, "shop")
		if !ok {
			return false
		}
		if strings.HasPrefix(after, "ping") || before == "" {
			return true
		}
		if c := before[len(before)-1]; c == 'e' || c < 'a' || c > 'z' {
			return true
		}
		rest = after
	}
}

func mail(s string) bool {
	return strings.Contains(s, "email") || strings.Contains(s, "e-mail") || strings.Contains(s, "e_mail") || strings.Contains(s, "e mail") ||
		strings.Contains(s, "newsletter")
}

// screenClass is the class of a window's width in CSS pixels, by the limits of Plausible's screen sizes.
func screenClass(width int64) string {
	switch {
	case width <= 0:
		return ""
	case width < 576:
		return "Mobile"
	case width < 992:
		return "Tablet"
	case width < 1440:
		return "Laptop"
	}
	return "Desktop"
}
