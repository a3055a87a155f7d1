--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';

CREATE TABLE public.session (
    session_id uuid NOT NULL
);

COPY public.session (session_id, website_id, browser, os, device, screen, language, country, region, city, created_at) FROM stdin;
s1	w	chrome	Mac OS	laptop	1440x900	en-US	DE	DE-BE	Berlin	2025-01-01 09:00:00
s2	w	ios	iOS	mobile	390x844	fr-FR	FR	\N	\N	2025-01-01 22:59:00
\.


COPY public.website (website_id, name, domain, share_id) FROM stdin;
w	Home	www.Example.com	\N
other	Other	other.example	\N
\.


COPY public.website_event (event_id, website_id, session_id, created_at, url_path, url_query, referrer_path, referrer_query, referrer_domain, page_title, event_type, event_name, visit_id, tag, utm_source, utm_medium, utm_campaign, utm_content, utm_term, hostname) FROM stdin;
e1	w	s1	2025-01-01 09:00:00+00	/	utm_source=weekly	\N	\N	\N	It's a tab\there \\ (1, 2); ünïcode	1	\N	v1	\N	weekly	email	\N	\N	\N	www.example.com
e2	w	s1	2025-01-01 09:00:30.500+00	/pricing	\N	/	\N	example.com	Pricing	1	\N	v1	\N	\N	\N	\N	\N	\N	example.com
e3	w	s1	2025-01-01 09:01:00+00	/pricing	\N	\N	\N	\N	Pricing	2	Signup	v1	\N	\N	\N	\N	\N	\N	example.com
e4	w	s1	2025-01-01 09:31:00+00	/	\N	\N	\N	\N	Home	1	\N	v2	\N	\N	\N	\N	\N	\N	example.com
e5	w	s2	2025-01-01 22:59:00+00	/	\N	/search	\N	www.google.com	Home	1	\N	v3	\N	\N	\N	\N	\N	\N	example.com
e6	w	s2	2025-01-01 23:10:00+00	/late	\N	\N	\N	\N	Late	1	\N	v3	\N	\N	\N	\N	\N	\N	example.com
e7	w	s2	2025-01-01 23:11:00+00	/late	\N	\N	\N	\N	Late	3	link	v3	\N	\N	\N	\N	\N	\N	example.com
x1	other	s1	2025-01-01 09:00:00+00	/	utm_source=weekly	\N	\N	\N	It's a tab\there \\ (1, 2); ünïcode	1	\N	v1	\N	weekly	email	\N	\N	\N	www.example.com
\.


--
-- PostgreSQL database dump complete
--
