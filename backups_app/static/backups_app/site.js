"use strict";

// Better with it, whole without it: live bars, copy buttons, and a name that has to be typed.
(() => {
    const words = (document.getElementById("words") || { dataset: {} }).dataset;
    const POLL = 1000;
    const QUEUED_POLL = 400; // a worker takes it within a moment
    const HIDDEN_POLL = 15000;
    const LONGEST_PAUSE = 30000;
    const SILENCE = 10000; // a site that says nothing for so long is as good as away

    const isSomethingTyped = () => [...document.querySelectorAll("main form :is(input, textarea)")].some((field) =>
        field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue);

    // --- the bar of a running operation ----------------------------------------------------------------

    class Live {
        constructor(box) {
            this.box = box;
            this.after = box.dataset.after;
            this.failures = 0;
            this.timer = null;
            this.isAsking = false; // one question at a time: its answer asks for the next
            document.addEventListener("visibilitychange", () => document.hidden || this.soon(0));
            window.addEventListener("online", () => this.soon(0));
            this.soon(this.pause());
        }

        pause() {
            if (document.hidden) return HIDDEN_POLL;
            return this.box.dataset.state === "queued" ? QUEUED_POLL : POLL;
        }

        soon(pause) {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.ask(), pause);
        }

        async ask() {
            if (this.isAsking) return;
            this.isAsking = true;
            let answer;
            try {
                const url = `${this.box.dataset.live}?after=${this.after}`;
                answer = await fetch(url, {
                    redirect: "manual",
                    headers: { Accept: "application/json" },
                    cache: "no-store",
                    signal: AbortSignal.timeout(SILENCE),
                });
                // The session has ended: the server leads to the login, and back here.
                if (answer.type === "opaqueredirect") this.renew();
                // No longer allowed: the server says so.
                else if (answer.status === 403 || answer.status === 404) this.renew();
                else if (!answer.ok) this.lost(words.trouble);
                else this.show(await answer.json());
            } catch {
                this.lost(words.lost);
            } finally {
                this.isAsking = false;
            }
        }

        lost(why) {
            this.failures += 1;
            const pause = Math.min(LONGEST_PAUSE, 1000 * 2 ** (this.failures - 1));
            this.tell(`${why} ${pause / 1000} s.`);
            this.soon(pause);
        }

        tell(text) {
            const place = this.box.querySelector("[data-live-lost]");
            place.hidden = !text;
            if (place.textContent !== text) place.textContent = text;
        }

        // The server writes the whole page anew; what somebody is typing would be lost with the old one.
        renew() {
            if (!isSomethingTyped()) {
                location.reload();
                return;
            }
            this.tell(words.stale);
            this.soon(this.pause());
        }

        isNews(report) {
            const { state, still, cancel } = this.box.dataset;
            if (report.state !== state) return true; // begun or ended
            if (!document.querySelector("[data-whole-page]")) return false;
            if (String(report.stands_still) !== still) return true; // the page tells who blocks it; or it moves again
            // Somebody asked for its end, or it can no longer be ended: the button knows.
            return `${report.cancel_requested} ${report.is_past_cancelling}` !== cancel;
        }

        show(report) {
            this.failures = 0;
            if (this.isNews(report)) {
                this.renew();
                return;
            }
            this.tell("");
            const step = this.box.querySelector("[data-live-step]");
            if (step.textContent !== report.step) step.textContent = report.step;
            const percent = report.percent === null ? "" : `${report.percent} %`;
            const numbers = [report.amount, percent, report.left].filter(Boolean).join(" · ");
            this.box.querySelector("[data-live-numbers]").textContent = numbers;
            const bar = this.box.querySelector("progress");
            if (report.percent === null) bar.removeAttribute("value");
            else bar.value = report.percent;
            document.querySelectorAll("[data-live-duration]").forEach((place) => { place.textContent = report.duration; });
            report.steps.forEach((line) => this.add(line));
            document.querySelectorAll("[data-live-ahead]").forEach((box) => this.foresee(box, report.ahead));
            this.soon(this.pause());
        }

        foresee(box, names) {
            box.hidden = !names.length;
            box.querySelector("ol").replaceChildren(...names.map((name) => {
                const item = document.createElement("li");
                const sign = document.createElement("span");
                sign.className = "when";
                sign.setAttribute("aria-hidden", "true");
                sign.textContent = "○";
                const what = document.createElement("span");
                what.className = "what quiet";
                what.textContent = name;
                item.append(sign, " ", what);
                return item;
            }));
        }

        add(line) {
            this.after = line.id;
            const list = document.querySelector("[data-live-steps]");
            if (!list) return;
            const item = document.createElement("li");
            item.className = `step-${line.level}`;
            const when = document.createElement("span");
            when.className = "when";
            const time = document.createElement("time");
            time.dateTime = line.at.utc;
            time.title = line.at.utc;
            time.textContent = line.at.local;
            when.append(time);
            const what = document.createElement("span");
            what.className = "what";
            if (line.level_text) {
                const level = document.createElement("strong");
                level.textContent = `${line.level_text}:`;
                what.append(level, " ");
            }
            what.append(`${line.what} `);
            const seconds = document.createElement("span");
            seconds.className = "quiet";
            seconds.textContent = line.seconds;
            what.append(seconds);
            item.append(when, " ", what);
            list.append(item);
            document.querySelectorAll("[data-live-nosteps]").forEach((place) => { place.hidden = true; });
        }
    }

    document.querySelectorAll("[data-live]").forEach((box) => new Live(box));

    // --- copy what one may need elsewhere ------------------------------------------------------------------

    async function copy(place) {
        try {
            await navigator.clipboard.writeText(place.textContent);
        } catch {
            const range = document.createRange();
            range.selectNodeContents(place);
            getSelection().removeAllRanges();
            getSelection().addRange(range);
            document.execCommand("copy");
        }
    }

    document.querySelectorAll(".copyable").forEach((place) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "act small copy";
        button.textContent = words.copy;
        button.addEventListener("click", async () => {
            await copy(place);
            button.textContent = words.copied;
            setTimeout(() => { button.textContent = words.copy; }, 2000);
        });
        place.after(button);
    });

    // --- the grave button works once the name is typed; the server checks it again -----------------------------

    document.querySelectorAll("form[data-confirm]").forEach((form) => {
        const typed = form.querySelector("[name=typed]");
        const button = form.querySelector("button[type=submit]");
        const why = document.createElement("span");
        why.className = "why";
        why.id = "why-disabled";
        button.setAttribute("aria-describedby", why.id);
        button.after(why);
        const look = () => {
            button.disabled = typed.value.trim() !== form.dataset.confirm;
            why.textContent = button.disabled ? words.type : "";
        };
        typed.addEventListener("input", look);
        window.addEventListener("pageshow", look);
        look();
    });
})();
