-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)
--
/*!40103 SET TIME_ZONE='+00:00' */;

DROP TABLE IF EXISTS `session`;
CREATE TABLE `session` (
  `session_id` varchar(36) NOT NULL,
  `website_id` varchar(36) NOT NULL,
  `browser` varchar(36) NOT NULL,
  `os` varchar(36) NOT NULL,
  `device` varchar(36) NOT NULL,
  `screen` varchar(36) NOT NULL,
  `language` varchar(36) NOT NULL,
  `country` varchar(36) NOT NULL,
  `region` varchar(36) NOT NULL,
  `city` varchar(36) NOT NULL,
  `created_at` varchar(36) NOT NULL,
  PRIMARY KEY (`session_id`),
  KEY `session_idx` (`session_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

LOCK TABLES `session` WRITE;
INSERT INTO `session` VALUES ('s1','w','chrome','Mac OS','laptop','1440x900','en-US','DE','DE-BE','Berlin','2025-01-01 09:00:00'),('s2','w','ios','iOS','mobile','390x844','fr-FR','FR',NULL,NULL,'2025-01-01 22:59:00');
UNLOCK TABLES;

DROP TABLE IF EXISTS `website`;
CREATE TABLE `website` (
  `website_id` varchar(36) NOT NULL,
  `name` varchar(36) NOT NULL,
  `domain` varchar(36) NOT NULL,
  PRIMARY KEY (`website_id`),
  KEY `website_idx` (`website_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

INSERT INTO `website` VALUES ('other','It''s other','other.example'),('w','Home','example.com');
DROP TABLE IF EXISTS `website_event`;
CREATE TABLE `website_event` (
  `event_id` varchar(36) NOT NULL,
  `website_id` varchar(36) NOT NULL,
  `session_id` varchar(36) NOT NULL,
  `created_at` varchar(36) NOT NULL,
  `url_path` varchar(36) NOT NULL,
  `url_query` varchar(36) NOT NULL,
  `referrer_path` varchar(36) NOT NULL,
  `referrer_query` varchar(36) NOT NULL,
  `referrer_domain` varchar(36) NOT NULL,
  `page_title` varchar(36) NOT NULL,
  `event_type` varchar(36) NOT NULL,
  `event_name` varchar(36) NOT NULL,
  `visit_id` varchar(36) NOT NULL,
  `tag` varchar(36) NOT NULL,
  `utm_source` varchar(36) NOT NULL,
  `utm_medium` varchar(36) NOT NULL,
  `utm_campaign` varchar(36) NOT NULL,
  `utm_content` varchar(36) NOT NULL,
  `utm_term` varchar(36) NOT NULL,
  `hostname` varchar(36) NOT NULL,
  PRIMARY KEY (`event_id`),
  KEY `website_event_idx` (`event_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

INSERT INTO `website_event` VALUES ('e1','w','s1','2025-01-01 09:00:00','/','utm_source=weekly',NULL,NULL,NULL,'It\'s a tab\there \\ (1, 2); ünïcode',1,NULL,'v1',NULL,'weekly','email',NULL,NULL,NULL,'www.example.com'),('e2','w','s1','2025-01-01 09:00:30.500','/pricing',NULL,'/',NULL,'example.com','Pricing',1,NULL,'v1',NULL,NULL,NULL,NULL,NULL,NULL,'example.com'),('e3','w','s1','2025-01-01 09:01:00','/pricing',NULL,NULL,NULL,NULL,'Pricing',2,'Signup','v1',NULL,NULL,NULL,NULL,NULL,NULL,'example.com');
INSERT INTO `website_event` (`event_id`, `website_id`, `session_id`, `created_at`, `url_path`, `url_query`, `referrer_path`, `referrer_query`, `referrer_domain`, `page_title`, `event_type`, `event_name`, `visit_id`, `tag`, `utm_source`, `utm_medium`, `utm_campaign`, `utm_content`, `utm_term`, `hostname`) VALUES
('e4','w','s1','2025-01-01 09:31:00','/',NULL,NULL,NULL,NULL,'Home',1,NULL,'v2',NULL,NULL,NULL,NULL,NULL,NULL,'example.com'),
('e5','w','s2','2025-01-01 22:59:00','/',NULL,'/search',NULL,'www.google.com','Home',1,NULL,'v3',NULL,NULL,NULL,NULL,NULL,NULL,'example.com'),
('e6','w','s2','2025-01-01 23:10:00','/late',NULL,NULL,NULL,NULL,'Late',1,NULL,'v3',NULL,NULL,NULL,NULL,NULL,NULL,'example.com'),
('e7','w','s2','2025-01-01 23:11:00','/late',NULL,NULL,NULL,NULL,'Late',3,'link','v3',NULL,NULL,NULL,NULL,NULL,NULL,'example.com'),
('x1','other','s1','2025-01-01 09:00:00','/','utm_source=weekly',NULL,NULL,NULL,'It\'s a tab\there \\ (1, 2); ünïcode',1,NULL,'v1',NULL,'weekly','email',NULL,NULL,NULL,'www.example.com');
-- Dump completed
