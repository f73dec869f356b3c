buildscript {
    repositories {
        google()
        mavenCentral()
    }
    dependencies {
        classpath("com.android.tools.build:gradle:9.3.1")
        classpath("org.jetbrains.kotlin:kotlin-gradle-plugin:2.2.10")
    }
}

allprojects {
    repositories {
        google()
        mavenCentral()
    }

    // The barcode scanner wants a model that Play Services fetch when they like, if there are any. This one is in the app.
    configurations.configureEach {
        resolutionStrategy.dependencySubstitution {
            substitute(module("com.google.android.gms:play-services-mlkit-barcode-scanning"))
                .using(module("com.google.mlkit:barcode-scanning:17.3.0"))
                .because("an invite is scanned where there is no internet")
        }
    }
}

tasks.register("clean").configure {
    delete("build")
}

