package enrich

import "strings"

// medium is the kind of a source, the second column of sources.tsv; "" for any website without a kind of
// its own.
type medium string

const (
	mediumSearch   medium = "search"
	mediumSocial   medium = "social"
	mediumEmail    medium = "email"
	mediumVideo    medium = "video"
	mediumAI       medium = "ai"
	mediumShopping medium = "shopping"
	mediumDisplay  medium = "display" // of clicks only; no source has it
)

// The channels, named as in Google Analytics 4 and Plausible.
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

// click is what the presence of a click id in the page's query tells. A network adds one to a link when a
// visitor clicks on it. The id itself names one click of one person and is never kept.
type click struct {
	source string // used if neither referrer nor tag tells one
	medium medium
	paid   bool // the link was an ad
}

// clickOf finds what a query parameter that holds a click id tells. Facebook and Instagram also add
// theirs to links in posts, so these aren't paid.
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

// attribution is what the channel of a visit follows from.
type attribution struct {
	source                            string // its name, "" for none
	medium                            medium // of the source
	utmSource, utmMedium, utmCampaign string
	click                             click
}

// channel is the channel of a visit, by the rules of Google Analytics 4's default channel group
// (support.google.com/analytics/answer/9756891) in Plausible's order. The first rule that holds decides.
// Additions of Plausible: AI Assistants, a utm_source such as facebook-ads as a sign of an ad, and no
// Unassigned. Our addition: the click id of any ad network makes a visit a paid one; Google's rules do so
// for its own click id alone.
func (a *attribution) channel() string {
	if a.utmSource == "" && a.utmMedium == "" && a.utmCampaign == "" && a.click == (click{}) {
		return a.untaggedChannel()
	}
	tag, source := strings.ToLower(a.utmMedium), strings.ToLower(a.utmSource)
	campaign := strings.ToLower(a.utmCampaign)
	kind := a.medium
	if kind == "" && a.click.paid {
		kind = a.click.medium
	}
	paid := paidMedium(tag) || a.click.paid
	ad := paid || paidSource(source)
	shopping := kind == mediumShopping || shoppingCampaign(campaign)
	for _, rule := range [...]struct {
		holds   bool
		channel string
	}{
		{strings.Contains(campaign, "cross-network"), channelCrossNetwork},
		{shopping && paid, channelPaidShopping},
		{kind == mediumSearch && ad, channelPaidSearch},
		{kind == mediumSocial && ad, channelPaidSocial},
		{kind == mediumVideo && ad, channelPaidVideo},
		{kind == mediumDisplay || displayMedium(tag), channelDisplay},
		{paid, channelPaidOther},
		{shopping, channelOrganicShopping},
		{kind == mediumSocial || socialMedium(tag), channelOrganicSocial},
		{kind == mediumVideo || strings.Contains(tag, "video"), channelOrganicVideo},
		{kind == mediumAI, channelAI},
		{kind == mediumSearch || tag == "organic", channelOrganicSearch},
		{kind == mediumEmail || emailTag(source) || emailTag(tag), channelEmail},
		{tag == "affiliate" || tag == "affiliates", channelAffiliates},
		{tag == "audio", channelAudio},
		{source == "sms" || tag == "sms", channelSMS},
		{pushMedium(tag) || source == "firebase", channelPush},
		{a.source != "" || tag == "referral" || tag == "app" || tag == "link", channelReferral},
	} {
		if rule.holds {
			return rule.channel
		}
	}
	return channelDirect
}

// untaggedChannel is what the rules of channel give for a visit without tags and click id, which nearly
// all are.
func (a *attribution) untaggedChannel() string {
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

// paidMedium is GA4's ^(.*cp.*|ppc|retargeting|paid.*)$.
func paidMedium(tag string) bool {
	return tag == "ppc" || tag == "retargeting" || strings.Contains(tag, "cp") ||
		strings.HasPrefix(tag, "paid")
}

// paidSource matches names of ad accounts: adwords, facebook-ads, yt_ad.
func paidSource(source string) bool {
	return source == "adwords" || strings.HasSuffix(source, "ads") ||
		strings.HasSuffix(source, "-ad") || strings.HasSuffix(source, "_ad")
}

func displayMedium(tag string) bool {
	switch tag {
	case "display", "banner", "expandable", "interstitial", "cpm":
		return true
	}
	return false
}

func socialMedium(tag string) bool {
	switch tag {
	case "social", "social-network", "social-media", "sm", "social network", "social media":
		return true
	}
	return false
}

func pushMedium(tag string) bool {
	return strings.HasSuffix(tag, "push") || strings.Contains(tag, "mobile") ||
		strings.Contains(tag, "notification")
}

// shoppingCampaign is GA4's ^(.*(([^a-df-z]|^)shop|shopping).*)$. It matches eshop and spring-shop, and
// not workshop.
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

// emailTag matches a utm_source or utm_medium that names e-mail.
func emailTag(s string) bool {
	for _, word := range [...]string{"email", "e-mail", "e_mail", "e mail", "newsletter"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}
