"""A sample of the college's QR database: its real schema, and made-up content in several scripts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

OWNER = "qr_owner"
DATABASE = "qrdb"
HEAD = "8d13a4dfeb1d"

Connection = psycopg.Connection[Any]

TABLES = """
CREATE TABLE alembic_version (
    version_num varchar(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE qr_codes (
    id varchar(36) NOT NULL,
    content text NOT NULL,
    qr_type varchar(50) NOT NULL DEFAULT 'static',
    redirect_url text,
    short_id varchar(10),
    created_at timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamptz,
    scan_count integer NOT NULL DEFAULT 0,
    last_scan_at timestamptz,
    file_format varchar(10) NOT NULL,
    fill_color varchar(50) NOT NULL DEFAULT 'black',
    back_color varchar(50) NOT NULL DEFAULT 'white',
    size integer NOT NULL DEFAULT 10,
    border integer NOT NULL DEFAULT 4,
    has_logo boolean NOT NULL DEFAULT false,
    title varchar(255),
    description text,
    error_level varchar(1) NOT NULL DEFAULT 'm',
    genuine_scan_count integer NOT NULL DEFAULT 0,
    first_genuine_scan_at timestamptz,
    last_genuine_scan_at timestamptz,
    refactor_metadata jsonb DEFAULT '{}'
);
CREATE TABLE scan_logs (
    id varchar NOT NULL,
    qr_code_id varchar NOT NULL,
    scanned_at timestamptz NOT NULL DEFAULT now(),
    ip_address varchar(50),
    raw_user_agent text,
    is_genuine_scan boolean NOT NULL DEFAULT false,
    device_family varchar(100),
    os_family varchar(50),
    os_version varchar(50),
    browser_family varchar(50),
    browser_version varchar(50),
    is_mobile boolean NOT NULL DEFAULT false,
    is_tablet boolean NOT NULL DEFAULT false,
    is_pc boolean NOT NULL DEFAULT false,
    is_bot boolean NOT NULL DEFAULT false,
    processed_by_new_service boolean DEFAULT false
);
"""

SCAN_INDEXES = (
    "id", "qr_code_id", "scanned_at", "is_genuine_scan", "device_family", "os_family", "browser_family",
    "is_mobile", "is_tablet", "is_pc", "is_bot",
)  # fmt: skip

KEYS_AND_INDEXES = """
ALTER TABLE qr_codes ADD CONSTRAINT qr_codes_pkey PRIMARY KEY (id);
CREATE INDEX ix_qr_codes_id ON qr_codes (id);
CREATE UNIQUE INDEX ix_qr_codes_short_id ON qr_codes (short_id);
ALTER TABLE scan_logs ADD CONSTRAINT scan_logs_pkey PRIMARY KEY (id);
ALTER TABLE scan_logs ADD CONSTRAINT scan_logs_qr_code_id_fkey
    FOREIGN KEY (qr_code_id) REFERENCES qr_codes (id) ON DELETE CASCADE;
""" + "".join(f"CREATE INDEX ix_scan_logs_{column} ON scan_logs ({column});\n" for column in SCAN_INDEXES)

# Title, description, path of the page that the code leads to.
SUBJECTS = (
    ("Main Library, opening hours", "Today's hours and the way to a free desk", "library/hours"),
    ("Cafeteria menu", "This week's dishes, with allergens", "dining/menu"),
    ("Chemistry lab 2.14, safety sheet", "Read before you enter. Goggles are by the door.", "safety/2-14"),
    ("Open Day 2025", "Programme, map and sign-up", "open-day"),
    ("Careers fair: who is where", "Booths A1 to F12", "careers/fair"),
    ("IT help desk", "Tickets, passwords, Wi-Fi; \"have you tried turning it off and on again?\"", "it/help"),
    ("Bike repair station", "Pump, tools & spare tubes — free", "transport/bikes"),
    ("Hörsaal Süd, Gebäude Ä", "Straße der Künste 5: Größe, Plätze, Übertragung", "raum/hoersaal-süd"),
    ("Prüfungsbüro: Öffnungszeiten", "Für Rückfragen während der Prüfungszeit", "pruefungen"),
    ("Mensa am Schloßplatz", "Heute: Käsespätzle, Grüße aus der Küche", "mensa/schlossplatz"),
    ("Bibliothèque, salle d'étude", "Réservez une place près de la fenêtre", "bibliotheque/salle"),
    ("Señalización del campus", "¿Dónde está el pabellón de Música? Aquí.", "campus/musica"),
    ("Zajęcia z języka polskiego", "Grupa środkowa, sala 3, godzina 14:15", "kursy/polski"),
    ("Çalışma salonu rezervasyonu", "İkinci kat, sessiz bölüm", "salon/rezervasyon"),
    ("Ένταξη φοιτητών", "Καλώς ήρθατε στο πανεπιστήμιο: χάρτης και πρόγραμμα", "ένταξη"),
    ("Εργαστήριο Φυσικής", "Οδηγίες ασφαλείας για το εργαστήριο", "ergastirio/fysiki"),
    ("Расписание занятий", "Корпус Б, аудитория 312; изменения каждый вторник", "расписание"),
    ("Общежитие № 4", "Правила проживания и часы посещения", "obshchezhitie/4"),
    ("Бібліотека: електронні ресурси", "Їжак, ґанок і є-читалка", "biblioteka/e"),
    ("مكتبة الجامعة", "ساعات العمل والخدمات للطلاب الجدد", "ar/library"),
    ("مركز اللغة العربية", "دروس مجانية كل يوم ثلاثاء", "ar/courses"),
    ("הספרייה המרכזית", "שעות פתיחה וחדרי לימוד שקטים", "he/library"),
    ("מעבדת מחשבים", "קומה שנייה, כניסה עם כרטיס סטודנט", "he/lab"),
    ("图书馆开放时间", "自习室与座位预约，期末考试期间延长", "zh/library"),
    ("國際學生服務處", "簽證、住宿與獎學金諮詢", "zh-hant/international"),
    ("学生食堂のメニュー", "今週の日替わり定食とアレルギー情報", "ja/menu"),
    ("コンピューター室", "ご利用のまえにログインしてください", "ja/lab"),
    ("छात्रावास की जानकारी", "कमरा आवंटन और भोजन का समय", "hi/hostel"),
    ("हिन्दी साहित्य सभा", "हर शुक्रवार शाम पाँच बजे", "hi/literature"),
    ("ห้องสมุดกลาง", "เปิดทุกวันจันทร์ถึงศุกร์", "th/library"),
    ("학생 상담 센터", "예약은 온라인으로 가능합니다", "ko/counselling"),
    ("Student party 🎉🎓", "Bring friends 👩‍🔬👨🏽‍🎨, music 🎶 and no 🐶 please", "party/🎉"),
    ("Recycling ♻️ points", "Glass, paper, batteries 🔋", "green/recycling"),
    ("Back\\slash & <b>markup</b> 'quotes'", "Line one\nLine two\tand a tab; 100 %; $1 \\N", "test/quoting"),
)  # fmt: skip

PLACES = (
    "North Campus", "South Campus", "Building A", "Gebäude Ö", "Κτίριο Γ", "Корпус Д", "المبنى ٣", "בניין 7",
    "教学楼二层", "本館3階", "भवन ५", "Sports hall", "Student union", "Car park 2",
)  # fmt: skip

COLOURS = (("black", "white"), ("#003366", "white"), ("darkgreen", "#fffff0"), ("#7a0019", "white"))

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone"
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko)"
# Agent, device, system and version, browser and version, mobile, tablet, computer, bot.
AGENTS = (
    (f"{IPHONE} OS 17_4 like Mac OS X) {WEBKIT} Version/17.4 Mobile/15E148 Safari/604.1",
     "iPhone", "iOS", "17.4", "Mobile Safari", "17.4", True, False, False, False),
    (f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Chrome/124.0.0.0 Mobile Safari/537.36",
     "Pixel 8", "Android", "14", "Chrome Mobile", "124.0.0", True, False, False, False),
    (f"Mozilla/5.0 (Linux; Android 13; SM-S911B) {CHROME} SamsungBrowser/24.0 Mobile Safari/537.36",
     "Samsung SM-S911B", "Android", "13", "Samsung Internet", "24.0", True, False, False, False),
    (f"{IPHONE} OS 16_7 like Mac OS X) {WEBKIT} CriOS/123.0 Mobile/15E148 Safari/604.1",
     "iPhone", "iOS", "16.7", "Chrome Mobile iOS", "123.0", True, False, False, False),
    (f"Mozilla/5.0 (iPad; CPU OS 17_3 like Mac OS X) {WEBKIT} Version/17.3 Mobile/15E148 Safari/604.1",
     "iPad", "iOS", "17.3", "Mobile Safari", "17.3", False, True, False, False),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
     "Other", "Linux", None, "Firefox", "125.0", False, False, True, False),
    (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Chrome/124.0.0.0 Safari/537.36 Edg/124.0.0.0",
     "Other", "Windows", "10", "Edge", "124.0.0", False, False, True, False),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
     "Spider", "Other", "", "Googlebot", "2.1", False, False, False, True),
)  # fmt: skip
AGENT_COLUMNS = (
    "raw_user_agent", "device_family", "os_family", "os_version", "browser_family", "browser_version",
    "is_mobile", "is_tablet", "is_pc", "is_bot",
)  # fmt: skip

# The same codes for the same seed on every server: hashes of the row's number stand in for chance.
# One code in three is static; nobody counts the scans of those.
FILL_CODES = """
INSERT INTO qr_codes (
    id, content, qr_type, redirect_url, short_id, created_at, updated_at, file_format, fill_color, back_color,
    size, border, has_logo, title, description, error_level, refactor_metadata)
SELECT
    md5(%(seed)s || ':code:' || n)::uuid::text,
    CASE WHEN n %% 3 = 0 THEN page ELSE 'https://qr.college.example/r/' || short END,
    CASE WHEN n %% 3 = 0 THEN 'static' ELSE 'dynamic' END,
    CASE WHEN n %% 3 <> 0 THEN page END,
    CASE WHEN n %% 3 <> 0 THEN short END,
    made, CASE WHEN chance %% 4 = 0 THEN made + interval '90 minutes' * (1 + chance %% 300) END,
    (ARRAY['png', 'svg', 'png', 'jpeg', 'webp'])[1 + chance %% 5],
    colours ->> 0, colours ->> 1, 8 + chance %% 5, 2 + chance %% 4, chance %% 7 = 0,
    CASE WHEN chance %% 11 <> 0 THEN (subject ->> 0) || ' · ' || place || ' · ' || n END,
    CASE WHEN chance %% 5 <> 0 THEN subject ->> 1 END,
    (ARRAY['m', 'l', 'q', 'h'])[1 + chance %% 4],
    CASE chance %% 9
        WHEN 0 THEN NULL
        WHEN 1 THEN jsonb_build_object('source', 'import', 'tags', jsonb_build_array(place, subject ->> 2))
        ELSE '{}' END
FROM (
    SELECT
        n, chance,
        %(subjects)s::jsonb -> (n %% %(subject_count)s) AS subject,
        %(places)s::jsonb ->> (chance %% %(place_count)s) AS place,
        %(colours)s::jsonb -> (chance / 16 %% %(colour_count)s) AS colours,
        'https://www.college.example/' || (%(subjects)s::jsonb -> (n %% %(subject_count)s) ->> 2)
            || '?code=' || n AS page,
        substr(md5(%(seed)s || ':short:' || n), 1, 5) || lpad(to_hex(n), 5, '0') AS short,
        %(until)s::timestamptz - interval '1 day' * (30 + chance %% 900)
            - interval '1 second' * (chance %% 86400) AS made
    FROM (
        SELECT n::integer, (hashint8extended(n, %(seed)s) & 2147483647)::integer AS chance
        FROM generate_series(1, %(codes)s) AS n) AS numbers) AS drawn
ORDER BY n
"""

# A few codes get most of the scans, as posters by the main door do; the newest scans are minutes old.
FILL_SCANS = """
INSERT INTO scan_logs (
    id, qr_code_id, scanned_at, ip_address, is_genuine_scan, raw_user_agent, device_family, os_family,
    os_version, browser_family, browser_version, is_mobile, is_tablet, is_pc, is_bot,
    processed_by_new_service)
WITH dynamic AS MATERIALIZED (
    SELECT id, row_number() OVER (ORDER BY short_id) - 1 AS number FROM qr_codes WHERE qr_type = 'dynamic')
SELECT
    md5(%(seed)s || ':scan:' || n)::uuid::text, dynamic.id,
    %(until)s::timestamptz - interval '30 days' * pow((%(scans)s - n)::float8 / %(scans)s, 2)
        - interval '1 microsecond' * (chance %% 60000000),
    CASE chance %% 10
        WHEN 0 THEN '2001:db8:' || to_hex(chance %% 65536) || '::' || to_hex(chance / 65536 %% 65536)
        WHEN 1 THEN NULL
        ELSE '198.51.' || chance %% 256 || '.' || chance / 256 %% 256 END,
    NOT agents.is_bot AND chance %% 3 <> 0,
    raw_user_agent, device_family, os_family, os_version, browser_family, browser_version,
    is_mobile, is_tablet, is_pc, is_bot, chance %% 20 <> 0
FROM (
    SELECT
        n, (hashint8extended(n, %(seed)s + 1) & 2147483647)::integer AS chance,
        (hashint8extended(n, %(seed)s + 2) & 2147483647) / 2147483648.0::float8 AS luck
    FROM generate_series(1, %(scans)s) AS n) AS drawn
CROSS JOIN (SELECT count(*) AS total FROM dynamic) AS counted
JOIN dynamic ON dynamic.number = floor(total * luck * luck * luck)::bigint
JOIN jsonb_to_recordset(%(agents)s) AS agents(
    number integer, raw_user_agent text, device_family text, os_family text, os_version text,
    browser_family text, browser_version text,
    is_mobile boolean, is_tablet boolean, is_pc boolean, is_bot boolean)
    ON agents.number = chance / 8 %% %(agent_count)s
"""

COUNT_SCANS = """
UPDATE qr_codes
SET scan_count = counted.scans, last_scan_at = counted.last, genuine_scan_count = counted.genuine,
    first_genuine_scan_at = counted.first_genuine, last_genuine_scan_at = counted.last_genuine
FROM (
    SELECT
        qr_code_id, count(*) AS scans, max(scanned_at) AS last,
        count(*) FILTER (WHERE is_genuine_scan) AS genuine,
        min(scanned_at) FILTER (WHERE is_genuine_scan) AS first_genuine,
        max(scanned_at) FILTER (WHERE is_genuine_scan) AS last_genuine
    FROM scan_logs GROUP BY qr_code_id) AS counted
WHERE counted.qr_code_id = qr_codes.id
"""


def create_owner(superuser: Connection, password: str) -> None:
    """Make the role that owns the database, or give it this password: no superuser, may create databases."""
    found = superuser.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone()
    verb = sql.SQL("ALTER" if found else "CREATE")
    superuser.execute(
        sql.SQL("{} ROLE {} LOGIN CREATEDB NOSUPERUSER PASSWORD {}").format(
            verb, sql.Identifier(OWNER), sql.Literal(password)
        )
    )


def create_database(superuser: Connection, name: str = DATABASE) -> None:
    """Make an empty database that belongs to the owner. The connection must be in autocommit mode."""
    superuser.execute(
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
            sql.Identifier(name), sql.Identifier(OWNER)
        )
    )


def fill(
    connection: Connection, codes: int = 334, scans: int = 1002, seed: int = 1, until: datetime | None = None
) -> None:
    """Write so many codes and scans, made by the server; the newest scan is as old as ``until`` (now)."""
    agents = [dict(zip(AGENT_COLUMNS, agent, strict=True)) for agent in AGENTS]
    values: dict[str, object] = {
        "codes": codes,
        "scans": scans,
        "seed": seed,
        "until": until or datetime.now(UTC),
        "subjects": json.dumps(SUBJECTS),
        "subject_count": len(SUBJECTS),
        "places": json.dumps(PLACES),
        "place_count": len(PLACES),
        "colours": json.dumps(COLOURS),
        "colour_count": len(COLOURS),
        "agents": json.dumps([{"number": number} | agent for number, agent in enumerate(agents)]),
        "agent_count": len(AGENTS),
    }
    cursor = psycopg.ClientCursor(connection)
    for statement in (FILL_CODES, FILL_SCANS, COUNT_SCANS):
        cursor.execute(statement, values)


def create_filled(connection: Connection, codes: int = 334, scans: int = 1002, seed: int = 1) -> None:
    """Schema and content at once; the indexes come last, which is the fast way for millions of scans."""
    connection.execute(TABLES)
    fill(connection, codes, scans, seed)
    connection.execute(KEYS_AND_INDEXES)
    connection.execute("INSERT INTO alembic_version VALUES (%s)", (HEAD,))
    connection.execute("ANALYZE")
