PRAGMA application_id = 1819764841;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE cells (
        run INTEGER NOT NULL REFERENCES runs,
        finished TEXT NOT NULL,
        zoo TEXT NOT NULL,
        model TEXT NOT NULL,
        task TEXT NOT NULL,
        length INTEGER NOT NULL,
        depth INTEGER,
        examples INTEGER NOT NULL,
        accuracy REAL NOT NULL,
        before REAL,
        outcome TEXT NOT NULL,
        accepted INTEGER NOT NULL,
        baseline TEXT,
        environment TEXT NOT NULL REFERENCES environments
    );
INSERT INTO "cells" VALUES(1,'2026-11-28T11:46:03Z','pocket','m2a','niah_single_1',256,NULL,4,100.0,100.0,'passed',0,'b0cfaec97cb072e6','c263ef07c893953e');
INSERT INTO "cells" VALUES(1,'2026-11-28T11:46:03Z','pocket','m2a','niah_single_1',256,50,4,100.0,100.0,'passed',0,'b0cfaec97cb072e6','c263ef07c893953e');
INSERT INTO "cells" VALUES(2,'2026-11-28T11:46:03Z','pocket','m2a','niah_single_1',256,NULL,4,25.0,100.0,'regressed',0,'b0cfaec97cb072e6','c263ef07c893953e');
INSERT INTO "cells" VALUES(2,'2026-11-28T11:46:03Z','pocket','m2a','niah_single_1',256,50,4,25.0,100.0,'regressed',0,'b0cfaec97cb072e6','c263ef07c893953e');
INSERT INTO "cells" VALUES(3,'2026-11-28T11:46:03Z','pocket','m2a','niah_single_1',256,NULL,4,25.0,NULL,'regressed',1,NULL,'c263ef07c893953e');
INSERT INTO "cells" VALUES(3,'2026-11-28T11:46:03Z','pocket','m2a','niah_single_1',256,50,4,25.0,NULL,'regressed',1,NULL,'c263ef07c893953e');
CREATE TABLE environments (environment TEXT PRIMARY KEY, content TEXT NOT NULL);
INSERT INTO "environments" VALUES('c263ef07c893953e','{"device": "cpu", "torch": "2.8.0"}');
CREATE TABLE runs (
        run INTEGER PRIMARY KEY,
        started TEXT NOT NULL,
        results TEXT NOT NULL,
        revision TEXT
    );
INSERT INTO "runs" VALUES(1,'2026-11-01T03:00:00Z','/results/night1',NULL);
INSERT INTO "runs" VALUES(2,'2026-11-02T03:00:00Z','/results/night2','4ad73a8c0de1');
INSERT INTO "runs" VALUES(3,'2026-11-03T03:00:00Z','/results/night3','4ad73a8c0de1');
CREATE UNIQUE INDEX cell_of_run ON cells (run, zoo, model, task, length, ifnull(depth, -1));
CREATE INDEX runs_of_cell ON cells (model, task, length);
COMMIT;
