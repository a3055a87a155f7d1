ALTER TABLE imports DELETE WHERE site = {site:String} AND id = {id:String} SETTINGS mutations_sync = 2
